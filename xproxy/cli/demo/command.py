"""``xproxy demo``: one port, every protocol, an upgrade in the middle, and a table of what happened."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import click
import trio
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xproxy.cli.demo.calls import Call, CallFailed, ask
from xproxy.cli.demo.journal import Journal, Told
from xproxy.cli.demo.proxy import Proxy, ProxyFailed, running
from xproxy.cli.demo.scene import set_up
from xproxy.cli.logs import configure_logging
from xproxy.cli.serving import leaves
from xproxy.codecs.detect import Detector, NeedMore
from xproxy.model.address import Address
from xproxy.model.errors import XproxyError
from xproxy.registry import CODECS, Registry, default_registry


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one request."""

    result: str
    ok: bool
    seconds: float


@attrs.frozen(kw_only=True)
class Row:
    """A connection, and what became of its two requests: before the upgrade and after it."""

    call: Call
    told: Told
    before: Outcome
    after: Outcome


@click.command()
@click.option("--once", is_flag=True, help="End after the table: exit 0, or 1 if a request failed.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Port of the proxy.  [default: 127.0.0.1:15001; a free one with --once]",
)
@click.pass_context
def demo(context: click.Context, once: bool, listen: str | None) -> None:
    """Show HTTP/1.1, RPC protocols and raw TCP going through one port, and an upgrade of the proxy.

    Starts upstreams of every protocol and the proxy, makes real requests, upgrades the proxy, and makes them again on
    the same connections. Prints how each was recognised, which route it took, who answered, and how it ended. Without
    --once it keeps running, for your own requests.
    """
    configure_logging("warning", "auto")
    try:
        place = Address.parse(listen or ("127.0.0.1:0" if once else "127.0.0.1:15001"))
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--listen") from exc
    registry = default_registry()
    if "http1" not in registry.names(CODECS):
        raise click.ClickException(
            "xproxy is not installed here (pip install -e .): no codecs found"
        )
    problems: list[Exception] = []
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="xproxy-demo-") as folder:
            rows = trio.run(_play, place, once, registry, Path(folder))
    except* (OSError, XproxyError, ProxyFailed) as group:
        problems = [*group.exceptions]
    if problems:
        raise click.ClickException("; ".join(map(str, leaves(problems))))
    if not all(row.before.ok and row.after.ok for row in rows):
        context.exit(1)


async def _play(listen: Address, once: bool, registry: Registry, folder: Path) -> list[Row]:
    journal = Journal(folder / "access.log")
    async with trio.open_nursery() as upstreams:
        scene = await set_up(upstreams, listen, registry, journal)
        async with running(scene.config, folder) as proxy:
            rows, said = await _act(scene.calls, proxy, journal)
            _print(rows, proxy.address, registry, said)
            if not once:
                _invite(proxy.address)
                await proxy.process.wait()
        upstreams.cancel_scope.cancel()
    return rows


async def _act(calls: Sequence[Call], proxy: Proxy, journal: Journal) -> tuple[list[Row], str]:
    """Ask on a connection for each call, upgrade, and ask again on the same ones; return what the upgrade said."""
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(
                await trio.open_tcp_stream(proxy.address.host, proxy.address.port)
            )
            for _ in calls
        ]
        talks = list(zip(calls, streams, strict=True))
        ports = [stream.socket.getsockname()[1] for stream in streams]
        before = [await _outcome(call, stream, call.first_bytes) for call, stream in talks]
        said = await proxy.upgrade()
        after = [await _outcome(call, stream, call.again()) for call, stream in talks]
    told = await journal.wait_for(ports)
    rows = [
        Row(call=call, told=told.get(port, Told()), before=first, after=second)
        for call, port, first, second in zip(calls, ports, before, after, strict=True)
    ]
    return rows, said


async def _outcome(call: Call, stream: trio.SocketStream, request: bytes) -> Outcome:
    started = trio.current_time()
    try:
        result, ok = await ask(call, stream, request), True
    except CallFailed as exc:
        result, ok = str(exc), False
    return Outcome(result=result, ok=ok, seconds=trio.current_time() - started)


def recognition(first_bytes: bytes, protocol: str, registry: Registry) -> str:
    """Say which codec the proxy took (``protocol``), and how many bytes told it."""
    detector = Detector(registry.codecs())
    for size in range(1, len(first_bytes) + 1):
        if not isinstance(detector.decide(first_bytes[:size]), NeedMore):
            return f"{protocol}, {size} byte{'s' * (size > 1)}"
    return protocol


def _print(rows: Sequence[Row], listen: Address, registry: Registry, said: str) -> None:
    table = Table(title=f"Through one port, {listen}", title_justify="left", box=SIMPLE_HEAD)
    for column in ("protocol", "request", "recognised as", "route"):
        table.add_column(column, overflow="fold")
    for column in ("before the upgrade", "after it, same connection"):
        table.add_column(column, overflow="fold")
        table.add_column("time", justify="right", no_wrap=True)
    for row in rows:
        cells = (
            row.call.protocol,
            row.call.asks,
            recognition(row.call.first_bytes, row.told.protocol, registry),
            row.told.route or "–",
            *_cells(row.before),
            *_cells(row.after),
        )
        style = None if row.before.ok and row.after.ok else "bold red"
        table.add_row(*map(_plain, cells), style=style)
    wide_enough = None if sys.stdout.isatty() else 120
    Console(width=wide_enough).print(table)
    if said:
        click.echo(f"The upgrade: {said}")
    lived = sum(row.before.ok and row.after.ok for row in rows)
    click.echo(f"{lived} of {len(rows)} connections were served before and after it")
    outcomes = [outcome for row in rows for outcome in (row.before, row.after)]
    answered = sum(outcome.ok for outcome in outcomes)
    click.echo(f"{answered} of {len(outcomes)} requests were answered as they should be")


def _cells(outcome: Outcome) -> tuple[str, str]:
    return outcome.result, f"{outcome.seconds * 1000:.1f} ms"


def _plain(text: str) -> str:
    return text.replace("[", "\\[")  # rich would take it for markup


def _invite(listen: Address) -> None:
    click.echo(f"""
Still serving; Ctrl-C ends it. Try:
  curl -i http://{listen}/hello          one of two upstreams, in turn
  curl -i http://{listen}/shop/cart      another route
  echo hello, raw bytes | nc -q1 {listen.host} {listen.port}    no protocol at all""")
