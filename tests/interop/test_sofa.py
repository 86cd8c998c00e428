"""Bolt's and Dubbo's real clients and servers, each direct and through one port of the proxy: the same results.

npm's sofa-bolt-node speaks Bolt 1 and 2, with and without CRC; apache-dubbo-js, dubbo2.js and dubbo-remoting speak
Dubbo. The server is sofa-rpc-node in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.sofa import call, sofa_server
from tests.process.product import Product, product

pytestmark = [pytest.mark.slow, pytest.mark.tool("node"), pytest.mark.tool("npm")]

CLIENTS = {
    "sofa_peer": ("bolt", "bolt-2", "bolt-2-crc", "dubbo"),
    "dubbo_peer": ("apache-dubbo-js", "dubbo2.js"),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    with sofa_server() as ports:
        yield ports


@pytest.fixture
def proxy(servers: dict[str, int], tmp_path: Path) -> Iterator[Product]:
    log = tmp_path / "access.log"
    text = (
        "listeners:\n"
        "  - name: edge\n"
        "    address: '127.0.0.1:0'\n"
        "    routes: main\n"
        f"    filters: [{{name: access_log, path: '{log}',"
        " template: '%ROUTE% %SERVICE% %METHOD% %RESPONSE_CODE% %STATUS%'}]\n"
        "routes:\n"
        "  main:\n"
        "    - name: blue-users\n"
        "      match: {protocol: dubbo, service: demo.Greeter, method: user,"
        " headers: {version: 1.2.3, group: blue}}\n"
        "      cluster: dubbo\n"
        "    - name: blue-ones\n"
        "      match: {method: attachments, headers: {group: blue}}\n"
        "      filters: [{name: headers, request: {set: {tenant: '%ROUTE%', group: green}}}]\n"
        "      cluster: dubbo\n"
        "    - {name: dubbo, match: {protocol: dubbo}, cluster: dubbo}\n"
        "    - {name: adding, match: {method: add, service: {prefix: 'demo.Greeter:'}},"
        " cluster: bolt}\n"
        "    - {name: bolt, match: {protocol: bolt}, cluster: bolt}\n"
        "clusters:\n"
        f"  dubbo: {{endpoints: ['127.0.0.1:{servers['dubbo']}']}}\n"
        f"  bolt: {{endpoints: ['127.0.0.1:{servers['bolt']}']}}\n"
    )
    with product(text, tmp_path) as found:
        yield found
        found.settled()
        assert found.stat("listener.edge.downstream_cx_protocol_error") == 0
        assert "Traceback" not in found.said()


@pytest.mark.parametrize(
    ("peer", "name"), [(peer, name) for peer, names in CLIENTS.items() for name in names]
)
def test_the_same_through_the_proxy(
    peer: str, name: str, servers: dict[str, int], proxy: Product
) -> None:
    direct = call(peer, {name: servers["bolt" if name.startswith("bolt") else "dubbo"]})
    assert call(peer, {name: proxy.port}) == direct
    assert direct[name][0] == "add: 3"
    assert len(direct[name]) == 8


def test_all_of_them_on_one_port(servers: dict[str, int], proxy: Product) -> None:
    for peer, names in CLIENTS.items():
        call(peer, dict.fromkeys(names, proxy.port))
    # One connection to each server carries them all, whatever their version.
    assert proxy.stat("cluster.bolt.upstream_cx_total") == 1
    assert proxy.stat("cluster.dubbo.upstream_cx_total") == 1
    proxy.settled()
    lines = (proxy.config.parent / "access.log").read_text().splitlines()
    assert lines.count("adding demo.Greeter:1.0 add 0 ok") == 6
    assert lines.count("bolt demo.Greeter:1.0 boom 2 internal") == 3
    assert lines.count("blue-users demo.Greeter user 20 ok") == 2
    assert lines.count("dubbo demo.Greeter user 20 ok") == 1
    assert lines.count("dubbo demo.Greeter boom 80 internal") == 3


@pytest.mark.parametrize("name", CLIENTS["dubbo_peer"])
def test_a_filter_changes_attachments(name: str, servers: dict[str, int], proxy: Product) -> None:
    (direct,) = call("dubbo_peer", {name: servers["dubbo"]}, "attachments")[name]
    (proxied,) = call("dubbo_peer", {name: proxy.port}, "attachments")[name]
    assert direct == 'attachments: ["undefined","blue","1.2.3","9000","demo.Greeter"]'
    assert proxied == 'attachments: ["blue-ones","green","1.2.3","9000","demo.Greeter"]'
