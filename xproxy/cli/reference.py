"""The reference page of the command line, from the commands' own help."""

from __future__ import annotations

from collections.abc import Iterator

import click

_INTRODUCTION = """\
# Command line

Exit codes: 0 fine, 1 failure, 2 wrong usage or configuration. Logs go to stderr. This page is made from the code by
`make docs`.
"""


def cli_reference(main: click.Group) -> str:
    """Return the page in Markdown."""
    context = click.Context(main, info_name="xproxy", max_content_width=100, terminal_width=100)
    parts = [_INTRODUCTION]
    parts += (_section(command, context) for command in _commands(main, context))
    return "\n".join(parts)


def _commands(main: click.Group, context: click.Context) -> Iterator[click.Command]:
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None  # it is in the list
        yield command


def _section(command: click.Command, parent: click.Context) -> str:
    context = click.Context(
        command,
        info_name=command.name,
        parent=parent,
        max_content_width=100,
        terminal_width=100,
        help_option_names=["-h", "--help"],
    )
    return f"## xproxy {command.name}\n\n```\n{command.get_help(context)}\n```\n"
