"""``xproxy check``: say whether a configuration is right."""

from __future__ import annotations

from random import Random

import click

from xproxy.codecs.detect import DetectCounters
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import read_file
from xproxy.config.schema import Config
from xproxy.model.errors import XproxyError
from xproxy.proxy.build import Tools, build
from xproxy.registry import Registry, default_registry
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.ticker import Ticker


@click.command()
@click.option("-c", "--config", "path", required=True, metavar="FILE", help="Configuration file.")
@click.pass_context
def check(context: click.Context, path: str) -> None:
    """Check a configuration file: exit 0, or print every mistake and exit 2.

    What `xproxy run` would refuse is refused, also what depends on this machine: addresses, files of logs. A port
    that somebody listens on now is no mistake.
    """
    registry = default_registry()
    try:
        loaded = read_file(path, registry)
    except InvalidConfig as exc:
        click.echo(exc.shown(), err=True)
        context.exit(2)
    try:
        _build(loaded.config, registry)
    except XproxyError as exc:
        click.echo(f"{path}: {exc}", err=True)
        context.exit(1)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning.shown()}", err=True)
    config = loaded.config
    click.echo(
        f"{path}: fine ({_count(len(config.listeners), 'listener')}, "
        f"{_count(sum(map(len, config.routes.values())), 'route')}, "
        f"{_count(len(config.clusters), 'cluster')})"
    )


def _build(config: Config, registry: Registry) -> None:
    """Assemble what ``run`` would: a plugin may fail only when it is really made. Opens no port."""
    poller = Poller()
    try:
        build(config, Tools(registry, poller, Timers(), Ticker(), Random(0), DetectCounters()))  # noqa: S311  # picks nothing
    finally:
        poller.close()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
