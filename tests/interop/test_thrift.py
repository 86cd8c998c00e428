"""Thrift's real clients and servers, each direct and through the proxy: the same calls, the same results.

PyPI's thrift, npm's and thriftpy2, in every transport and protocol that each has; and then a client in each dialect
against a server in each other one, with the proxy between them converting.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
import thriftpy2 as thriftpy2_library
from thriftpy2.rpc import client_context
from thriftpy2.transport import TFramedTransportFactory

from tests.interop.node_packages import NODE, node_packages
from tests.interop.tap import tap
from tests.process.product import PATIENCE, Product, product
from tests.process.upstreams import running

pytestmark = pytest.mark.slow

HERE: Final = Path(__file__).parent
IDL: Final = HERE / "calc.thrift"
Told = dict[str, list[str]]
"""For each dialect, what a client says came of its calls."""


@attrs.frozen
class Kit:
    """A library as a peer."""

    command: tuple[str, ...]
    environment: dict[str, str]

    @contextmanager
    def server(self) -> Iterator[dict[str, int]]:
        """Run its server; gives a port for each dialect."""
        said = ""

        def read(line: str) -> int:
            nonlocal said
            said = line
            return 0

        with running([*self.command, "serve"], read, self.environment):
            ports: dict[str, int] = json.loads(said)
            yield ports

    def call(self, ports: dict[str, int]) -> Told:
        """Run its client against each dialect's port."""
        arguments = [f"{dialect}:{port}" for dialect, port in ports.items()]
        done = subprocess.run(
            [*self.command, "call", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: Told = json.loads(done.stdout)
        return told


def generated(language: str, folder: Path) -> Path:
    """Return where Thrift's compiler put the code for the interface."""
    command = ["thrift", "-nowarn", "--gen", language, "-out", str(folder), str(IDL)]
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    code = generated("py", tmp_path_factory.mktemp("thrift-py"))
    return Kit((sys.executable, str(HERE / "thrift_pypi.py"), str(code)), dict(os.environ))


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    environment = node_packages()
    code = generated("js:node,es6", tmp_path_factory.mktemp("thrift-js"))
    return Kit(("node", str(NODE / "thrift_peer.js"), str(code)), environment)


@pytest.fixture(scope="module")
def thriftpy2() -> Kit:
    command = (sys.executable, str(HERE / "thrift_thriftpy2.py"), str(IDL))
    return Kit(command, dict(os.environ))


def front(ports: dict[str, int], *, convert: bool = False) -> str:
    """Return a configuration with a listener for each server."""
    codecs = f"[auto, {{name: thrift, idl: [{IDL}]}}]" if convert else "auto"
    text = "listeners:\n"
    for name in ports:
        text += f"  - {{name: {name}, address: '127.0.0.1:0', routes: {name}, codecs: {codecs}}}\n"
    text += "routes:\n"
    for name in ports:
        text += f"  {name}: [{{cluster: {name}}}]\n"
    text += "clusters:\n"
    for name, port in ports.items():
        transport, _, protocol = name.partition("-")
        codec = "same"
        if convert:
            codec = f"{{name: thrift, transport: {transport}, protocol: {protocol}, idl: [{IDL}]}}"
        text += f"  {name}: {{endpoints: ['127.0.0.1:{port}'], codec: {codec}}}\n"
    return text


def settled(proxy: Product) -> None:
    proxy.settled()
    stats = proxy.stats()
    wrong = [name for name, value in stats.items() if value and name.endswith("_cx_protocol_error")]
    assert not wrong
    assert "Traceback" not in proxy.said()


def compare(client: Kit, ports: dict[str, int], work: Path) -> None:
    """Make the client's calls both ways."""
    direct = client.call(ports)
    with product(front(ports), work) as proxy:
        proxied = client.call({name: proxy.ports[name] for name in ports})
        settled(proxy)
    for dialect, said in direct.items():
        assert proxied[dialect] == said, dialect


@pytest.mark.tool("thrift")
def test_pypi(pypi: Kit, tmp_path: Path) -> None:
    with pypi.server() as ports:
        compare(pypi, ports, tmp_path)


@pytest.mark.tool("thrift")
def test_pypi_with_zlib(pypi: Kit, tmp_path: Path) -> None:
    with pypi.server() as ports:
        compare(pypi, {"header-binary-zlib": ports["header-binary"]}, tmp_path)


@pytest.mark.tool("node")
@pytest.mark.tool("npm")
@pytest.mark.tool("thrift")
def test_npm(npm: Kit, tmp_path: Path) -> None:
    with npm.server() as ports:
        compare(npm, ports, tmp_path)


def test_thriftpy2(thriftpy2: Kit, tmp_path: Path) -> None:
    with thriftpy2.server() as ports:
        compare(thriftpy2, ports, tmp_path)


@pytest.mark.tool("node")
@pytest.mark.tool("npm")
@pytest.mark.tool("thrift")
def test_one_library_calls_another(npm: Kit, pypi: Kit, thriftpy2: Kit, tmp_path: Path) -> None:
    with pypi.server() as to_pypi, npm.server() as to_npm:
        shared = {name: port for name, port in to_pypi.items() if name in to_npm}
        compare(npm, shared, tmp_path)
        compare(thriftpy2, shared, tmp_path)
        compare(pypi, {name: to_npm[name] for name in shared}, tmp_path)


@pytest.mark.tool("thrift")
def test_every_dialect_calls_every_other(pypi: Kit, tmp_path: Path) -> None:
    with pypi.server() as ports:
        ports = {name: port for name, port in ports.items() if not name.endswith("-mux")}
        wanted = pypi.call({"framed-binary": ports["framed-binary"]})["framed-binary"]
        with product(front(ports, convert=True), tmp_path) as proxy:
            for server in ports:
                found = pypi.call(dict.fromkeys(ports, proxy.ports[server]))
                for client, said in found.items():
                    assert said == wanted, f"{client} to {server}"
                total = proxy.stat(f"cluster.{server}.upstream_rq_total")
                assert total == len(ports) * len(wanted)
            settled(proxy)


@pytest.mark.tool("thrift")
def test_arguments_by_name_in_routes_and_logs(pypi: Kit, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with pypi.server() as ports:
        port = ports["framed-binary"]
        text = (
            "listeners:\n"
            "  - name: edge\n"
            "    address: '127.0.0.1:0'\n"
            "    routes: main\n"
            f"    codecs: [auto, {{name: thrift, idl: [{IDL}]}}]\n"
            f"    filters: [{{name: access_log, path: '{log}',"
            " template: '%METHOD% %ARG(a)% %ARG(r.name)% %ROUTE%'}]\n"
            "routes:\n"
            "  main:\n"
            "    - {name: negative, match: {arguments: {a: {prefix: '-'}}}, cluster: all}\n"
            "    - {name: blue, match: {arguments: {r.c: BLUE}}, cluster: all}\n"
            "    - {name: rest, cluster: all}\n"
            f"clusters: {{all: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
        )
        with product(text, tmp_path) as proxy:
            said = pypi.call({"framed-binary": proxy.port})["framed-binary"]
            assert said == pypi.call({"framed-binary": port})["framed-binary"]
            settled(proxy)
    lines = log.read_text().splitlines()
    assert lines[0] == "add -5 - negative"
    assert "rec - grüße 𝄞 blue" in lines
    assert lines[-1] == "add 1 - rest"
    assert len(re.findall("rec - - rest", "\n".join(lines))) == 1


ALL_ONEWAY: Final = re.sub(
    r"(i32|string|oneway void|void) (add|echo|fail)(\(.*?\))[^,;]*",
    r"oneway void \2\3",
    IDL.read_text(),
).replace("service Calc {", "service Calc {\n  oneway void gone(1: i32 n)")
"""The interface as a client has it that sends ordinary methods as oneway ones, and one that there is not.

Nobody reads the answers: REPLY, REPLY with an exception of the interface, and EXCEPTION.
"""
LANES: Final = ("connections: shared", "connections: bound", "proxy_protocol: v1")


def shouts(port: int, name: str, wrong: list[str]) -> None:
    """Say things that are answered although nobody asks for that, and ask others in between."""
    ordinary, oneway = (
        thriftpy2_library.load_fp(io.StringIO(text), module_name=f"calc{number}_thrift")
        for number, text in enumerate((IDL.read_text(), ALL_ONEWAY))
    )
    transport = TFramedTransportFactory()
    with (
        client_context(ordinary.Calc, "127.0.0.1", port, trans_factory=transport) as asking,
        client_context(oneway.Calc, "127.0.0.1", port, trans_factory=transport) as shouting,
    ):
        aloud: tuple[Callable[[], object], ...] = (
            lambda: shouting.add(1, 1),
            lambda: shouting.echo("crash"),
            lambda: shouting.fail("because"),
            lambda: shouting.gone(1),
        )
        for number in range(30):
            aloud[number % len(aloud)]()
            said = asking.echo(f"{name} {number}")
            if said != f"{name} {number}":
                wrong.append(f"{name} {number} was answered with {said}")
        for number in range(5):  # each of them behind the others
            for shout in aloud:
                shout()
            said = asking.echo(f"{name} at last {number}")
            if said != f"{name} at last {number}":
                wrong.append(f"{name} at last {number} was answered with {said}")


def shouted(ports: dict[str, int], lane: str, work: Path, *exceptions: bytes) -> None:
    """Let many clients do that beside each other, through the proxy. ``exceptions``: what EXCEPTION answers."""
    wrong: list[str] = []
    introduced = lane.startswith("proxy_protocol")
    with tap(ports["framed-binary"], introduced=introduced) as server:
        text = front({"framed-binary": server.port})
        text = text.replace("codec: same}", f"codec: same, {lane}}}")
        with product(text, work) as proxy, ThreadPoolExecutor(6) as pool:
            port = proxy.ports["framed-binary"]
            clients = [pool.submit(shouts, port, f"client {n}", wrong) for n in range(6)]
            for client in clients:
                client.result(4 * PATIENCE)
            assert proxy.stat("cluster.framed-binary.upstream_rq_total") == 6 * (60 + 25)
            settled(proxy)
        answered = b"".join(bytes(one.data) for one in server.answered)
    assert not wrong
    for method in exceptions:
        assert b"\x80\1\0\3\0\0\0\4%b" % method in answered


@pytest.mark.parametrize("lane", LANES)
def test_thriftpy2_answers_what_nobody_asked(thriftpy2: Kit, lane: str, tmp_path: Path) -> None:
    with thriftpy2.server() as ports:
        shouted(ports, lane, tmp_path, b"gone")


@pytest.mark.tool("thrift")
@pytest.mark.parametrize("lane", LANES)
def test_pypi_answers_what_nobody_asked(pypi: Kit, lane: str, tmp_path: Path) -> None:
    with pypi.server() as ports:
        shouted(ports, lane, tmp_path, b"gone", b"echo")
