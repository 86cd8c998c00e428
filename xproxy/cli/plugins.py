"""``xproxy codecs`` and ``xproxy filters``: what is installed, and what it can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import click
from rich.console import Console
from rich.table import Table

from xproxy.codecs.api import (
    RestoringPlugin,
    SupportsFlow,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsUpgrade,
)
from xproxy.config.codecs import options_class
from xproxy.config.fields import class_doc, config_fields, is_required, key_of
from xproxy.model.errors import PluginError
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import API_VERSION, Role
from xproxy.registry import CODECS, FILTERS, Entry, Registry, default_registry

Row: TypeAlias = dict[str, str | int | list[str]]

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.command()
@_json
def codecs(as_json: bool) -> None:
    """List the installed codecs, in order of detection."""
    rows = _rows(default_registry(), CODECS, _codec)
    rows.sort(key=lambda row: (row.get("rank", 1 << 30), row["name"]))
    _print("codecs", rows, as_json)


@click.command()
@_json
def filters(as_json: bool) -> None:
    """List the installed filters."""
    _print("filters", _rows(default_registry(), FILTERS, _filter), as_json)


def _rows(registry: Registry, group: str, describe: Callable[[Registry, str], Row]) -> list[Row]:
    rows: list[Row] = []
    for entry in registry.entries(group):
        try:
            facts = describe(registry, entry.name)
        except PluginError as exc:
            facts = {"broken": str(exc)}
        rows.append({**_origin(entry), **facts})
    return rows


def _origin(entry: Entry) -> Row:
    return {
        "name": entry.name,
        "distribution": f"{entry.distribution} {entry.version}",
        "api": API_VERSION,
    }


def _codec(registry: Registry, name: str) -> Row:
    plugin = registry.codec(name)
    traits = plugin.traits
    codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    abilities: list[tuple[str, bool]] = [
        ("heartbeat", isinstance(codec, SupportsHeartbeat)),
        ("goaway", isinstance(codec, SupportsGoAway)),
        ("flow control", isinstance(codec, SupportsFlow)),
        ("snapshot", isinstance(plugin, RestoringPlugin)),
        ("upgrade", isinstance(codec, SupportsUpgrade)),
        ("half-close", traits.half_close),
        ("trailers", traits.trailers),
        ("interim responses", traits.interim),
        ("oneway", traits.oneway),
        ("reverse requests", traits.reverse),
        ("server first", traits.server_first),
        ("state of connections", traits.stateful),
    ]
    return {
        "api": traits.api,
        "rank": traits.rank,
        "sharing": traits.sharing.value,
        "alpn": list(traits.alpn),
        "dialects": list(traits.dialects),
        "options": [key_of(f) for f in config_fields(options_class(plugin))],
        "capabilities": [name for name, able in abilities if able],
    }


def _filter(registry: Registry, name: str) -> Row:
    cls = registry.filter(name)
    return {
        "options": [f"{key_of(f)}{' (required)' * is_required(f)}" for f in config_fields(cls)],
        "capabilities": ["answers by itself"] if getattr(cls, "terminal", False) else [],
        "summary": class_doc(cls),
    }


def _print(title: str, rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo(f"no {title} are installed", err=True)
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    # A pipe has no width: give the table what it wants.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _cell(value: str | int | list[str]) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value).replace("[", "\\[")
