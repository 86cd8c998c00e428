"""The ``xproxy`` command. Exit codes: 0 fine, 1 failure, 2 usage or configuration."""

from __future__ import annotations

from importlib import metadata

import click

from xproxy.cli.check import check
from xproxy.cli.demo.command import demo
from xproxy.cli.plugins import codecs, filters
from xproxy.cli.run import run
from xproxy.cli.schema import schema
from xproxy.cli.upgrade import upgrade
from xproxy.model.errors import PluginError


class _Main(click.Group):
    def invoke(self, context: click.Context) -> object:
        """Run a command; plugins that cannot be used are one line, not a stack."""
        try:
            return super().invoke(context)
        except PluginError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(
    cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(metadata.version("xproxy"), prog_name="xproxy")
def main() -> None:
    """A proxy for every protocol on one port."""


for command in (run, check, demo, codecs, filters, schema, upgrade):
    main.add_command(command)
