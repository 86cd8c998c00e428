"""``xproxy run``: the proxy."""

from __future__ import annotations

import functools
import logging

import click

from xproxy.cli.logs import FORMATS, LEVELS, configure_logging
from xproxy.cli.serving import run_proxy
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import read_file, simple
from xproxy.config.schema import Config
from xproxy.registry import Registry, default_registry

_log = logging.getLogger(__name__)


@click.command()
@click.option("-c", "--config", "path", metavar="FILE", help="Configuration file.")
@click.option("--listen", metavar="ADDRESS", help="Without a file: where to listen.")
@click.option(
    "--upstream",
    "upstreams",
    metavar="ADDRESS",
    multiple=True,
    help="Without a file: where requests go; may be given several times.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="auto: human at a terminal, JSON otherwise. Logs go to stderr.",
)
def run(
    path: str | None,
    listen: str | None,
    upstreams: tuple[str, ...],
    log_level: str,
    log_format: str,
) -> None:
    """Run the proxy, from a file or from --listen and --upstream.

    Prints one line a listener when ready. SIGTERM and SIGINT drain and end it; SIGHUP reads the file again.
    """
    configure_logging(log_level, log_format)
    registry = default_registry()
    if path is not None and not listen and not upstreams:
        try:
            config = _read(path, registry)
        except InvalidConfig as exc:
            raise _Refused(str(exc)) from exc
        run_proxy(config, registry, functools.partial(_read, path, registry))
    elif path is None and listen is not None and upstreams:
        run_proxy(_simple(listen, upstreams), registry, None)
    else:
        raise click.UsageError("give either -c FILE, or --listen and at least one --upstream")


def _read(path: str, registry: Registry) -> Config:
    """Read the file, at the start and for each SIGHUP. Raises InvalidConfig."""
    loaded = read_file(path, registry)
    for warning in loaded.warnings:
        _log.warning("%s", warning)
    return loaded.config


def _simple(listen: str, upstreams: tuple[str, ...]) -> Config:
    try:
        return simple(listen, upstreams)
    except InvalidConfig as exc:
        raise _Refused(str(exc)) from exc


class _Refused(click.ClickException):
    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print every finding, one a line, as ``check`` does."""
        click.echo(self.message, err=True)
