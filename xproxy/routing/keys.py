"""Keys: what the text that a condition looks at must be, begin with or end with. By them an index finds routes.

A condition that holds for a text has a key which that text meets. The other way round this need not be so, unless the
key says that it proves the condition: what an index finds is tried like any other route.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TypeAlias

import attrs

from xproxy.config.schema import PathMatch, StringMatch
from xproxy.model.authority import DEFAULT_PORTS, normalised, split_port


class Place(enum.Enum):
    """Where in a text its key stands."""

    WHOLE = enum.auto()
    START = enum.auto()
    END = enum.auto()


@attrs.frozen
class Key:
    """A text that a condition names."""

    place: Place
    text: str
    proves: bool = False
    """A text that meets the key meets the condition."""


Keys: TypeAlias = tuple[Key, ...]
"""One of them is met wherever the condition holds. None: the condition names no text that could be looked up."""


def host_keys(patterns: Iterable[str]) -> Keys:
    """Return the keys of host patterns. Whole ones with a port are of hosts with ports, all others of bare hosts."""
    found: dict[Key, None] = {}
    for pattern in patterns:
        if "*" not in pattern:
            found[Key(Place.WHOLE, normalised(pattern), proves=True)] = None
            continue
        host, _ = split_port(pattern.lower())
        if host == "*":
            return ()  # also for requests that have no host
        if host.startswith("*"):
            found[Key(Place.END, host[1:].removesuffix("."))] = None
        elif host.endswith("*"):
            found[Key(Place.START, host[:-1])] = None
        else:  # a port of ``*``
            found[Key(Place.WHOLE, normalised(host))] = None
    return tuple(found)


def path_keys(match: PathMatch) -> Keys:
    """Return the keys of a path."""
    if match.exact is not None:
        return (Key(Place.WHOLE, match.exact, proves=True),)
    if match.prefix is not None:
        return (Key(Place.START, match.prefix, proves=True),)
    if match.segment_prefix is not None:
        whole = match.segment_prefix.rstrip("/")
        inside = Key(Place.START, whole + "/", proves=True)
        return (Key(Place.WHOLE, whole, proves=True), inside) if whole else (inside,)
    return ()


def service_keys(match: StringMatch) -> Keys:
    """Return the keys of a service, or of an authority at its plainest, whatever the scheme makes of its port."""
    if match.exact is not None and not match.invert and not match.treat_missing_as_empty:
        exact = match.exact
        spellings = {exact: None} | {normalised(exact, s): None for s in ("", *DEFAULT_PORTS)}
        # Another spelling than its own says the same under some schemes only.
        return tuple(Key(Place.WHOLE, text, proves=text == exact) for text in spellings)
    return text_keys(match)


def name_keys(match: StringMatch) -> Keys:
    """Return the keys of a host name, which comes in lower case, without the dot at its end."""
    return tuple(
        Key(key.place, lower if key.place is Place.START else lower.removesuffix("."), proves=True)
        for key in text_keys(match)
        for lower in (key.text.lower(),)
    )


def text_keys(match: StringMatch) -> Keys:
    """Return the keys of any text."""
    if match.invert or match.treat_missing_as_empty:
        return ()
    if match.exact is not None:
        return (Key(Place.WHOLE, match.exact, proves=True),)
    if match.prefix is not None:
        return (Key(Place.START, match.prefix, proves=True),)
    if match.suffix is not None:
        return (Key(Place.END, match.suffix, proves=True),)
    return ()
