"""``xproxy schema``: the JSON Schema of the configuration file."""

from __future__ import annotations

import json

import click

from xproxy.config.json_schema import json_schema
from xproxy.registry import default_registry


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors; installed filters included.

    Save it and put "# yaml-language-server: $schema=xproxy.schema.json" first in the file.
    """
    click.echo(json.dumps(json_schema(default_registry()), indent=2, ensure_ascii=False))
