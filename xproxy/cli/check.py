"""``xproxy check``: say whether a configuration is right."""

from __future__ import annotations

import click

from xproxy.config.findings import InvalidConfig
from xproxy.config.load import read_file
from xproxy.registry import default_registry


@click.command()
@click.option("-c", "--config", "path", required=True, metavar="FILE", help="Configuration file.")
@click.pass_context
def check(context: click.Context, path: str) -> None:
    """Check a configuration file: exit 0, or print every mistake and exit 1."""
    try:
        loaded = read_file(path, default_registry())
    except InvalidConfig as exc:
        click.echo(str(exc), err=True)
        context.exit(1)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    config = loaded.config
    click.echo(
        f"{path}: fine ({_count(len(config.listeners), 'listener')}, "
        f"{_count(sum(map(len, config.routes.values())), 'route')}, "
        f"{_count(len(config.clusters), 'cluster')})"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
