"""The ``xproxy`` command. Exit codes: 0 fine, 1 failure, 2 usage or configuration.

A command is imported when it is asked for: a worker needs nothing of the others to start, nor ``upgrade`` a proxy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

import click

from xproxy.model.errors import PluginError

_COMMANDS: Final[Mapping[str, str]] = {
    "check": "xproxy.cli.check",
    "codecs": "xproxy.cli.plugins",
    "demo": "xproxy.cli.demo.command",
    "filters": "xproxy.cli.plugins",
    "run": "xproxy.cli.run",
    "schema": "xproxy.cli.schema",
    "upgrade": "xproxy.cli.upgrade",
}
"""The module of each command, which has it by its name."""


class _Main(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name. Raises what its import raises."""
        del ctx
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, context: click.Context) -> object:
        """Run a command; plugins that cannot be used are one line, not a stack."""
        try:
            return super().invoke(context)
        except PluginError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(
    cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="xproxy", prog_name="xproxy")
def main() -> None:
    """A proxy for every protocol on one port."""
