"""Running the proxy from a command: start it, say what listens, turn failures into one line."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import click
import trio

from xproxy.admin.handler import admin_handler
from xproxy.config.schema import Config
from xproxy.model.errors import XproxyError
from xproxy.proxy.overseen import Overseen
from xproxy.proxy.reload import Load
from xproxy.proxy.runtime import serve
from xproxy.registry import Registry


def run_proxy(
    config: Config,
    registry: Registry,
    reload: Load | None,
    log_stats: object | None = None,
    overseer: Overseen | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT has drained the proxy. Raises ClickException for what a user can mend."""
    failures: list[Exception] = []
    try:
        trio.run(_serve, config, registry, reload, log_stats, overseer)
    except* (OSError, XproxyError) as group:
        failures = list(leaves(group.exceptions))
    if failures:
        # A port that is taken, a plugin that cannot be imported, …
        raise click.ClickException("; ".join(map(str, failures))) from failures[0]


async def _serve(
    config: Config,
    registry: Registry,
    reload: Load | None,
    log_stats: object | None,
    overseer: Overseen | None,
) -> None:
    async with trio.open_nursery() as nursery:
        start = functools.partial(
            serve,
            config,
            registry=registry,
            reload=reload,
            admin=admin_handler,
            log_stats=log_stats,
            overseer=overseer,
        )
        for line in await nursery.start(start):
            click.echo(line)


def leaves(exceptions: Iterable[Exception]) -> Iterator[Exception]:
    """Give the exceptions themselves, out of whatever groups nurseries have put them in."""
    for exc in exceptions:
        if isinstance(exc, ExceptionGroup):
            yield from leaves(exc.exceptions)
        else:
            yield exc
