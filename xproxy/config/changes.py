"""What a configuration's text says that the one before it did not, as items that can be written as JSON.

Of thousands of routes and clusters mostly one has changed. Who has the configuration of the text before keeps the
rest of it, the very objects, and reads the items only. Each item is small: they are read in steps.

Kept is what means the same whenever it is read. A filter, options of a codec and certificates may be read from files,
or have a state: what has such a thing is read anew, as with a configuration that is read whole.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
from cattrs import Converter

from xproxy.config.findings import InvalidConfig, Path
from xproxy.config.partial import problems_of
from xproxy.config.schema import ClusterConfig, Config, ListenerConfig, RouteConfig

_NEW: Final = -1
"""In place of a route's place before: it comes as an item of its own."""


def changes(before: object, after: Mapping[str, object]) -> Iterator[list[object]]:
    """Give what ``after`` has and ``before`` has not; both plain values of documents, ``after`` one without mistakes.

    Any ``before`` will do: of one that is no configuration nothing is kept.
    """
    top = {key: value for key, value in after.items() if key not in ("routes", "clusters")}
    listeners = _list(after.get("listeners"))
    # One is needed for it to be a configuration; there may be thousands.
    yield ["top", {**top, "listeners": listeners[:1]}]
    for listener in listeners[1:]:
        yield ["listener", listener]
    old = _mapping(before)
    yield from _clusters(_mapping(old.get("clusters")), _mapping(after.get("clusters")))
    tables = _mapping(old.get("routes"))
    for name, routes in _mapping(after.get("routes")).items():
        yield from _table(name, tables.get(name), _list(routes))


def _clusters(before: dict[str, object], after: dict[str, object]) -> Iterator[list[object]]:
    yield ["clusters", None if list(before) == list(after) else list(after)]
    for name, cluster in after.items():
        if (
            name not in before
            or not _cluster_keeps(cluster)
            or _text(cluster) != _text(before[name])
        ):
            yield ["cluster", name, cluster]


def _table(name: str, before: object, after: list[object]) -> Iterator[list[object]]:
    old, new = [_text(route) for route in _list(before)], [_text(route) for route in after]
    known: dict[str, int] = {}
    for index, text in enumerate(old):
        known.setdefault(text, index)
    places = [
        known.get(text, _NEW) if _route_keeps(route) else _NEW
        for text, route in zip(new, after, strict=True)
    ]
    if isinstance(before, list) and old == new and _NEW not in places:
        yield ["table", name, None]
        return
    yield ["table", name, places]
    for index, route in enumerate(after):
        if places[index] == _NEW:
            yield ["route", index, route]


def _cluster_keeps(cluster: object) -> bool:
    mapping = _mapping(cluster)
    return "tls" not in mapping and not isinstance(mapping.get("codec"), dict)


def _route_keeps(route: object) -> bool:
    return "filters" not in _mapping(route)


def _text(value: object) -> str:
    # Not by ==, for which 1 is True and 1.0; and the order of keys says what weights mean.
    return json.dumps(value)


def _mapping(value: object) -> dict[str, Any]:  # Any: as documents have it
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@attrs.define(eq=False)
class _Table:
    """Routes, of which some are still to come."""

    routes: list[Any]  # Any: None where one is to come
    same: tuple[RouteConfig, ...] | None = None
    """They are these, all of them."""


def changing(
    config: Config, items: Iterable[Sequence[Any]], converter: Converter
) -> Generator[None, None, Config]:
    """Return ``config``, which was read from the text before, with ``items`` of ``changes``; yields after each.

    What has not changed is the same object in both. Raises InvalidConfig where an item cannot be read after all: a
    file that a filter names may have gone meanwhile. Raises ValueError where these are no items for ``config``.
    """
    top: Config | None = None
    listeners: list[ListenerConfig] = []
    names: Iterable[str] = config.clusters
    fresh: dict[str, ClusterConfig] = {}
    tables: dict[str, _Table] = {}
    table, last = "", _Table([])
    at: Path
    for item in items:
        match item:  # exhaustive: all that ``changes`` gives
            case ["top", value]:
                top = _read(converter, value, Config, ())
            case ["listener", value]:
                at = ("listeners", 1 + len(listeners))
                listeners.append(_read(converter, value, ListenerConfig, at))
            case ["clusters", order]:
                names = config.clusters if order is None else order
            case ["cluster", name, value]:
                fresh[name] = _read(converter, value, ClusterConfig, ("clusters", name))
            case ["table", name, None]:
                tables[name] = _Table([], config.routes[name])
            case ["table", name, places]:
                known = config.routes.get(name, ())
                last = _Table([None if place == _NEW else known[place] for place in places])
                table, tables[name] = name, last
            case ["route", index, value]:
                at = ("routes", table, index)
                last.routes[index] = _read(converter, value, RouteConfig, at)
            case _:
                raise ValueError(f"an unknown change: {item[:1]}")
        yield
    if top is None:
        raise ValueError("the changes have no beginning")
    clusters = {name: fresh.get(name) or config.clusters[name] for name in names}
    yield
    routes = {
        name: tuple(found.routes) if found.same is None else found.same
        for name, found in tables.items()
    }
    yield
    return attrs.evolve(
        top, listeners=(*top.listeners, *listeners), routes=routes, clusters=clusters
    )


def _read(converter: Converter, value: object, cls: type, at: Path) -> Any:  # Any: of that class
    try:
        return converter.structure(value, cls)
    except Exception as exc:  # plugins' classes may raise anything
        raise InvalidConfig.of(list(problems_of(exc, at))) from exc
