"""Every protocol at once through one port, in clear text and over TLS, each answer verified.

``python tests/process/mixed.py [SECONDS]`` (60) runs the proxy with an upstream for each protocol, lets two clients
of each protocol ask (one of them over TLS) and prints what came of it. Exit code 1: something failed, was answered
wrongly, or was left behind. The test runs the same for a few seconds.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402  # the path is set above
from rich.table import Table  # noqa: E402  # as above

from tests.certificates import Authority, Issued  # noqa: E402  # as above
from tests.process.mixed_clients import (  # noqa: E402  # as above
    CLIENTS,
    NAME,
    RPC,
    TUNNEL,
    Tally,
    Target,
    drive,
)
from tests.process.product import (  # noqa: E402  # as above
    PATIENCE,
    Product,
    eventually,
    product,
    unused_port,
)
from tests.process.upstreams import connected, running, upstream  # noqa: E402  # as above

HERE: Final = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Line:
    """One line of the table."""

    protocol: str
    tls: bool
    tally: Tally

    @property
    def good(self) -> bool:
        return bool(self.tally.requests) and not self.tally.errors and not self.tally.mismatches


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of it."""

    lines: tuple[Line, ...]
    complaints: tuple[str, ...]
    """What is wrong besides: something left behind, something in the log."""
    seconds: float
    memory: tuple[int, int]
    """The proxy's resident bytes before and after."""

    @property
    def good(self) -> bool:
        return not self.complaints and all(line.good for line in self.lines)


def configuration(ports: Mapping[str, int], shown: Issued) -> str:
    """Return the proxy's configuration: one listener, told apart by what the clients say."""
    clusters = "".join(
        f"  {name}: {{endpoints: ['127.0.0.1:{port}']{_CODECS.get(name, '')}}}\n"
        for name, port in ports.items()
    )
    return (
        "listeners:\n"
        "  - name: edge\n"
        "    address: 127.0.0.1:0\n"
        f"    tls: {{certificates: [{{cert: {shown.cert}, key: {shown.key}}}]}}\n"
        "    fallback: {cluster: raw}\n"
        "    filters: [request_id, forwarded]\n"
        "    routes: main\n"
        "routes:\n"
        "  main:\n"
        f"    - {{hosts: ['{TUNNEL}'], match: {{method: CONNECT}}, cluster: raw,"
        " allow_connect: true, timeout: 0}\n"
        "    - {match: {path: /socket}, cluster: websocket, allow_upgrade: [websocket], timeout: 0}\n"
        "    - {match: {protocol: grpc, service: echo.Echo}, cluster: grpc}\n"
        "    - {match: {protocol: [http1, http2]}, cluster: web}\n"
        # The two servers of Bolt speak one version each; their services are named differently.
        "    - {match: {protocol: bolt, service: {contains: EchoService2}}, cluster: bolt2}\n"
        "    - {match: {protocol: bolt}, cluster: bolt}\n"
        "    - {match: {protocol: dubbo}, cluster: dubbo}\n"
        "    - {match: {protocol: thrift}, cluster: thrift}\n"
        "    - {match: {protocol: xs1}, cluster: xs1}\n"
        f"clusters:\n{clusters}"
    )


_CODECS: Final = {
    "web": ", codec: http1",
    "websocket": ", codec: http1",
    "grpc": ", codec: http2",
    "raw": ", codec: opaque",
}
"""What an upstream speaks where that is not what the client does."""


@contextmanager
def upstreams(rpcload: Path) -> Iterator[dict[str, int]]:
    """Run a server for each protocol; gives their ports by cluster."""
    with ExitStack() as stack:
        ports = {"web": stack.enter_context(upstream("web"))}
        ports["raw"] = stack.enter_context(upstream("echo"))
        for name, program in (("websocket", "websocket_echo.py"), ("grpc", "grpc_echo.py")):
            command = [sys.executable, str(HERE / program)]
            ports[name], _ = stack.enter_context(running(command, int))
        for name in RPC.values():
            ports[name] = port = unused_port()
            stack.enter_context(_serving(rpcload, name, port))
        yield ports


@contextmanager
def _serving(rpcload: Path, protocol: str, port: int) -> Iterator[None]:
    command = [str(rpcload), "serve", "-proto", protocol, "-port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: connected(port), f"the {protocol} upstream listens")
        yield
    finally:
        process.kill()
        process.wait()


def run(rpcload: Path, work: Path, seconds: float, seed: int = 7) -> Outcome:
    """Run everything for so long."""
    authority = Authority(work / "certificates")
    shown = authority.issue(NAME, TUNNEL.partition(":")[0], "127.0.0.1")
    with ExitStack() as stack:
        ports = stack.enter_context(upstreams(rpcload))
        proxy = stack.enter_context(product(configuration(ports, shown), work))
        secured = [sys.executable, str(HERE / "secured.py"), str(proxy.port), str(authority.ca)]
        tls_port, _ = stack.enter_context(running([*secured, NAME], int))
        over = threading.Event()
        lines, threads = [], []
        for protocol, client in CLIENTS.items():
            for tls in (False, True):
                tally = Tally()
                target = Target(
                    port=tls_port if tls and protocol in RPC else proxy.port,
                    authority=authority.ca if tls else None,
                    over=over,
                    seconds=seconds,
                    rpcload=rpcload,
                    random=random.Random(f"{seed} {protocol} {tls}"),
                )
                lines.append(Line(protocol=protocol, tls=tls, tally=tally))
                threads.append(threading.Thread(target=drive, args=(client, target, tally)))
        before, started = proxy.resident, time.monotonic()
        for thread in threads:
            thread.start()
        over.wait(seconds)
        over.set()
        for thread in threads:
            thread.join(5 * PATIENCE)
        return Outcome(
            lines=tuple(lines),
            complaints=tuple(complaints(proxy)),
            seconds=time.monotonic() - started,
            memory=(before, proxy.resident),
        )


def complaints(proxy: Product) -> Iterator[str]:
    try:
        proxy.settled()
    except AssertionError as exc:
        yield f"left behind: {exc}"
    for line in proxy.said().splitlines():
        if "Traceback" in line or '"level": "error"' in line:
            yield f"in the log: {line[:2000]}"


def show(outcome: Outcome) -> None:
    """Print the table."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("protocol", "over")
    for heading in ("requests", "errors", "mismatches"):
        table.add_column(heading, justify="right")
    table.add_column("the last of them")
    for line in outcome.lines:
        tally = line.tally
        counts = (f"{n:,}" for n in (tally.requests, tally.errors, tally.mismatches))
        over = "TLS" if line.tls else "clear text"
        table.add_row(
            line.protocol, over, *counts, tally.last, style=None if line.good else "bold red"
        )
    console.print(table)
    before, after = (f"{number / 2**20:.0f} MiB" for number in outcome.memory)
    total = sum(line.tally.requests for line in outcome.lines)
    console.print(f"{total:,} requests in {outcome.seconds:.0f} s; memory {before} → {after}")
    for complaint in outcome.complaints:
        console.print(complaint, style="bold red", markup=False)


def compiled(work: Path) -> Path:
    """Return the load generator, built."""
    program = work / "rpcload"
    command = ["gcc", "-O2", "-o", str(program), str(ROOT / "bench" / "rpcload.c")]
    subprocess.run(command, check=True, timeout=240)
    return program


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="xproxy-mixed-") as name:
        work = Path(name)
        outcome = run(compiled(work), work, seconds)
    show(outcome)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
