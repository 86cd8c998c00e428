"""``xproxy demo``: one port, every protocol, and a table of what happened."""

from __future__ import annotations

import functools
import sys

import attrs
import click
import trio
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xproxy.cli.demo.calls import Call, CallFailed, make
from xproxy.cli.demo.recorder import Recorder
from xproxy.cli.demo.scene import set_up
from xproxy.cli.logs import configure_logging
from xproxy.cli.serving import leaves
from xproxy.codecs.detect import Detector, NeedMore
from xproxy.model.address import Address
from xproxy.model.errors import XproxyError
from xproxy.proxy.runtime import serve
from xproxy.registry import CODECS, Registry, default_registry


@attrs.frozen(kw_only=True)
class Row:
    """One call and what became of it."""

    call: Call
    recognised: str
    route: str
    endpoint: str
    result: str
    ok: bool
    seconds: float


@click.command()
@click.option("--once", is_flag=True, help="End after the table: exit 0, or 1 if a request failed.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Port of the proxy.  [default: 127.0.0.1:15001; a free one with --once]",
)
@click.pass_context
def demo(context: click.Context, once: bool, listen: str | None) -> None:
    """Show HTTP/1.1, RPC protocols and raw TCP going through one port.

    Starts upstreams of every protocol and the proxy, makes real requests, and prints how each was
    recognised, which route and endpoint it took, and how it ended. Without --once it keeps running,
    for your own requests.
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
        rows = trio.run(_play, place, once, registry)
    except* (OSError, XproxyError) as group:
        problems = [*group.exceptions]
    if problems:
        raise click.ClickException("; ".join(map(str, leaves(problems))))
    if not all(row.ok for row in rows):
        context.exit(1)


async def _play(listen: Address, once: bool, registry: Registry) -> list[Row]:
    recorder = Recorder()
    async with trio.open_nursery() as upstreams:
        scene = await set_up(upstreams, listen, registry, recorder)
        async with trio.open_nursery() as proxy:
            (line,) = await proxy.start(functools.partial(serve, scene.config, registry=registry))
            address = Address.parse(line.split()[-1])  # a free port has its number now
            rows = [await _row(call, address, registry, recorder) for call in scene.calls]
            _print(rows, address)
            if once:
                proxy.cancel_scope.cancel()
            else:
                _invite(address)
        upstreams.cancel_scope.cancel()
    return rows


async def _row(call: Call, proxy: Address, registry: Registry, recorder: Recorder) -> Row:
    recorder.requests.clear()
    started = trio.current_time()
    try:
        result, ok = await make(call, proxy), True
    except CallFailed as exc:
        result, ok = str(exc), False
    seconds = trio.current_time() - started
    request = recorder.requests[-1] if recorder.requests else None
    return Row(
        call=call,
        recognised=recognition(
            call.first_bytes, request.connection.protocol if request else "", registry
        ),
        route=(request.record.route if request else "") or "–",
        endpoint=str(request.record.endpoint) if request and request.record.endpoint else "–",
        result=result,
        ok=ok,
        seconds=seconds,
    )


def recognition(first_bytes: bytes, protocol: str, registry: Registry) -> str:
    """Say which codec the proxy took (``protocol``), and how many bytes told it."""
    detector = Detector(registry.codecs())
    for size in range(1, len(first_bytes) + 1):
        if not isinstance(detector.decide(first_bytes[:size]), NeedMore):
            return f"{protocol}, {size} byte{'s' * (size > 1)}"
    return protocol


def _print(rows: list[Row], listen: Address) -> None:
    table = Table(title=f"Through one port, {listen}", title_justify="left", box=SIMPLE_HEAD)
    for column in ("protocol", "request", "recognised as", "route", "endpoint", "result"):
        table.add_column(column, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for row in rows:
        cells = (
            row.call.protocol,
            row.call.asks,
            row.recognised,
            row.route,
            row.endpoint,
            row.result,
        )
        style = None if row.ok else "bold red"
        table.add_row(*map(_plain, cells), f"{row.seconds * 1000:.1f} ms", style=style)
    wide_enough = None if sys.stdout.isatty() else 120
    Console(width=wide_enough).print(table)
    failed = sum(not row.ok for row in rows)
    click.echo(f"{len(rows) - failed} of {len(rows)} requests were answered as they should be")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")  # rich would take it for markup


def _invite(listen: Address) -> None:
    click.echo(f"""
Still serving; Ctrl-C ends it. Try:
  curl -i http://{listen}/hello          one of two upstreams, in turn
  curl -i http://{listen}/shop/cart      another route
  echo hello, raw bytes | nc -q1 {listen.host} {listen.port}    no protocol at all""")
