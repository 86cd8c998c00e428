"""Bolt's and Dubbo's real clients and servers, each direct and through one port of the proxy: the same results.

npm's sofa-bolt-node speaks Bolt 1 and 2, with and without CRC; apache-dubbo-js, dubbo2.js and dubbo-remoting speak
Dubbo. The server is sofa-rpc-node in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.sofa import call, sofa_server
from tests.interop.tap import tap
from tests.process.product import PATIENCE, Product, eventually, product

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


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        *(("sofa_peer", "bolt"), ("sofa_peer", "bolt-2-crc"), ("sofa_peer", "dubbo")),
        *(("dubbo_peer", "apache-dubbo-js"), ("dubbo_peer", "dubbo2.js")),
    ],
)
def test_a_call_that_keeps_the_servers_only_thread_is_not_given_up(
    peer: str, name: str, servers: dict[str, int], tmp_path: Path
) -> None:
    protocol = "bolt" if name.startswith("bolt") else "dubbo"
    busy = tmp_path / "busy"
    busy.touch()
    with tap(servers[protocol]) as server, ThreadPoolExecutor(1) as pool:
        text = (
            "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
            "routes: {main: [{cluster: one, timeout: 60s}]}\n"
            "clusters:\n"
            "  one:\n"
            f"    endpoints: ['127.0.0.1:{server.port}']\n"
            "    keepalive: {interval: 50ms, timeout: 50ms, max_misses: 2}\n"
        )
        with product(text, tmp_path) as proxy:
            calls = pool.submit(call, peer, {name: proxy.port}, "busy", str(busy))
            try:
                eventually((tmp_path / "busy.begun").exists, "the call has come")
                (said,) = server.said
                before = said.pieces
                # What follows the call on its connection is heartbeats: twice as many as may be missed, and more.
                eventually(lambda: said.pieces - before > 5, "it is asked again and again")
            finally:
                busy.unlink()
            assert calls.result(2 * PATIENCE) == {name: ['busy: "free"', "add: 3"]}
            assert len(server.said) == 2  # such a connection gets no more calls
            assert proxy.stat("cluster.one.upstream_rq_reset") == 0
            assert proxy.stat("cluster.one.endpoint_failing") == 0
            proxy.settled()
