"""``xproxy run``: the proxy."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Literal

import attrs
import click

from xproxy.admin.answers import answer
from xproxy.cli.logs import FORMATS, LEVELS, configure_logging
from xproxy.cli.serving import run_proxy
from xproxy.config.findings import Finding, InvalidConfig
from xproxy.config.load import simple
from xproxy.config.schema import Config, FilterConfig
from xproxy.filters.access_log import AccessLog
from xproxy.migration.handover import HANDOVER
from xproxy.model.errors import PluginError
from xproxy.proxy.config_file import ConfigFile
from xproxy.proxy.overseen import NoSupervisor, Overseen
from xproxy.registry import default_registry
from xproxy.supervisor.table import MOST_WORKERS

_log = logging.getLogger(__name__)


def _workers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> int | Literal["auto"] | None:
    if value is None or value == "auto":
        return "auto" if value else None
    if value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_WORKERS:
        return int(value)
    raise click.BadParameter(f"expected auto or a number from 1 to {MOST_WORKERS}, not {value!r}")


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
@click.option(
    "--requests/--no-requests",
    "show_requests",
    default=None,
    help="Without a file: print a line for each request. Default: at a terminal.",
)
@click.option(
    "--workers",
    metavar="N|auto",
    callback=_workers,
    help="Processes that share the ports; auto: one a core.  [default: what the file says, else 1]",
)
@click.option(
    "--control",
    metavar="PATH",
    help="Unix socket for xproxy upgrade.  [default: by pid, in $XDG_RUNTIME_DIR/xproxy or /run/xproxy]",
)
@click.option(
    "--takeover",
    is_flag=True,
    help="Take the place of the proxy that runs at --control, in another process; it ends with its last connection.",
)
def run(
    path: str | None,
    listen: str | None,
    upstreams: tuple[str, ...],
    log_level: str,
    log_format: str,
    show_requests: bool | None,
    workers: int | Literal["auto"] | None,
    control: str | None,
    takeover: bool,  # the supervisor has seen to it
) -> None:
    """Run the proxy, from a file or from --listen and --upstream.

    Prints one line a listener when ready. SIGTERM and SIGINT drain and end it, a second one cuts off what is in
    flight. SIGHUP reads the file again.
    """
    try:
        overseer = Overseen.from_environment(handover=HANDOVER, answer=answer)
    except NoSupervisor as exc:
        raise click.ClickException(str(exc)) from exc
    try:
        log_stats = configure_logging(log_level, log_format)
        registry = default_registry()
        load: ConfigFile | None = None
        if path is not None and not listen and not upstreams:
            load = ConfigFile(path, registry, _warn)
            config = _read(load)
        elif path is None and listen is not None and upstreams:
            config = _simple(listen, upstreams)
            if show_requests is None:
                show_requests = sys.stdout.isatty()
            config = _telling(config) if show_requests else config
        else:
            raise click.UsageError("give either -c FILE, or --listen and at least one --upstream")
        if overseer is not None:
            count = config.workers if workers is None else workers
            overseer.hello(
                len(os.sched_getaffinity(0)) if count == "auto" else count,
                log_format=log_format,
                log_level=log_level,
                control=os.path.abspath(control) if control else "",
                generations=config.takeover.generations,
            )
        run_proxy(config, registry, load, log_stats, overseer)
    except NoSupervisor as exc:
        raise click.ClickException(str(exc)) from exc
    except (click.ClickException, PluginError) as exc:
        if overseer is not None:
            overseer.failed(exc.message if isinstance(exc, click.ClickException) else str(exc))
        raise
    finally:
        if overseer is not None:
            overseer.close()


def _read(file: ConfigFile) -> Config:
    try:
        return file.read()
    except InvalidConfig as exc:
        raise _Refused(exc.shown()) from exc


def _warn(warnings: Iterable[Finding]) -> None:
    """Say what is odd about the file, at the start and for each SIGHUP."""
    for warning in warnings:
        _log.warning("%s", warning, extra={"every": True})


def _simple(listen: str, upstreams: tuple[str, ...]) -> Config:
    try:
        return simple(listen, upstreams)
    except InvalidConfig as exc:
        raise _Refused(exc.shown()) from exc


_LINE = '%protocol:12%  "%method:16% %target:200%" %response_code% %status% %duration%ms %endpoint% %detail:200%'


def _telling(config: Config) -> Config:
    """Return the configuration with a line for each request on stdout."""
    log = FilterConfig(name="access_log", options=AccessLog(path="stdout", template=_LINE))
    listeners = tuple(attrs.evolve(one, filters=(log, *one.filters)) for one in config.listeners)
    return attrs.evolve(config, listeners=listeners)


class _Refused(click.ClickException):
    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print every finding, one a line, as ``check`` does."""
        click.echo(self.message, err=True)
