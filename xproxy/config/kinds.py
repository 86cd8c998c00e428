"""Kinds of values: what may be written for a type, in words and as a test."""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path as FilePath
from typing import Final, Literal

import attrs

from xproxy.config.balancing import CookieConfig
from xproxy.config.breakers import RetryBudgetConfig
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.fields import alternatives
from xproxy.config.findings import Problem, show
from xproxy.config.health import OutlierDetectionConfig
from xproxy.config.schema import (
    EndpointConfig,
    PathMatch,
    ProxyProtocolConfig,
    ServerFirstConfig,
    StringMatch,
)
from xproxy.config.tls import ClusterTlsConfig
from xproxy.model.address import Address
from xproxy.model.limits import Duration, File, Size
from xproxy.model.status import Status

SHORTHANDS: Final[Mapping[type, tuple[str, Callable[[object], object]]]] = {
    StringMatch: ("text", lambda v: {"exact": v} if isinstance(v, str) else v),
    PathMatch: ("text", lambda v: {"exact": v} if isinstance(v, str) else v),
    EndpointConfig: ("an address", lambda v: {"address": v} if isinstance(v, str) else v),
    CookieConfig: ("text", lambda v: {"name": v} if isinstance(v, str) else v),
    ProxyProtocolConfig: ("true", lambda v: {} if v is True else v),
    ServerFirstConfig: ("true", lambda v: {} if v is True else v),
    ClusterTlsConfig: ("true", lambda v: {} if v is True else v),
    OutlierDetectionConfig: ("true", lambda v: {} if v is True else v),
    DiscoveryConfig: ("a name", lambda v: {"name": v} if isinstance(v, str) else v),
    RetryBudgetConfig: ("true", lambda v: {} if v is True else v),
}
"""What may be written instead of a class's mapping, and the mapping it stands for."""

EXCLUSIVE: Final[Mapping[type, tuple[str, ...]]] = {
    StringMatch: ("exact", "prefix", "suffix", "contains", "regex", "range", "present"),
    PathMatch: ("exact", "prefix", "segment_prefix", "regex"),
}
"""The keys of a class of which exactly one must be given."""

_CONTAINERS: Final[Mapping[object, Callable[[list[object]], object]]] = {
    tuple: tuple,
    list: list,
    Sequence: tuple,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
}


def describe(type_: object) -> str:
    """Say what may be written for a type, as in ``expected …``."""
    if type_ in _SCALARS:
        return _SCALARS[type_]
    union = alternatives(type_)
    if union is not None:
        return " or ".join(dict.fromkeys(describe(member) for member in union))
    if is_literal(type_):
        return " or ".join(label(member) for member in typing.get_args(type_))
    if is_sequence(type_):
        return "a list"
    if isinstance(type_, type) and is_class(type_):
        short = SHORTHANDS.get(type_)
        return f"{short[0]} or a mapping" if short else "a mapping"
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return " or ".join(enum_labels(type_))
    return "a mapping" if is_mapping(type_) else "a value"


_SCALARS: Final[dict[object, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    bytes: "text",
    FilePath: "a file's path",
    File: "a file's path",
    type(None): "nothing",
    Duration: "a duration (250ms, 3s, 5m, 1h or 0)",
    Size: "a size (512B, 64KiB, 1MiB or 0)",
    Address: "an address (host:port, [ipv6]:port or unix:/path)",
    typing.Any: "anything",
    object: "anything",
}


def label(member: object) -> str:
    """Write a literal as it stands in YAML."""
    return member if isinstance(member, str) else json.dumps(member)


def enum_labels(type_: type[enum.Enum]) -> list[str]:
    """Values where they are texts, else names in lower case with dashes, as Status has its labels."""
    if issubclass(type_, Status):
        return [member.label for member in type_]
    return [
        m.value if isinstance(m.value, str) else m.name.lower().replace("_", "-") for m in type_
    ]


def unexpected(type_: object, value: object) -> Problem:
    """Return the problem of a value of the wrong kind."""
    hint = ""
    if type_ is str and isinstance(value, int | float):
        hint = json.dumps(str(value).lower() if isinstance(value, bool) else str(value))
    return Problem(f"expected {describe(type_)}, found {show(value)}", suggestion=hint)


def container_of(type_: object) -> Callable[[list[object]], object] | None:
    """Return what makes the container of a list's items, or None if the type is no list."""
    return _CONTAINERS.get(typing.get_origin(type_) or type_)


def is_sequence(type_: object) -> bool:
    """Say whether the type is written as a list of like items."""
    arguments = typing.get_args(type_)
    if typing.get_origin(type_) is tuple and (len(arguments) != 2 or arguments[1] is not ...):
        return False  # a fixed number of items of different kinds: cattrs' own affair
    return container_of(type_) is not None


def item_type(type_: object) -> object:
    """Return the type of a list's items."""
    arguments = typing.get_args(type_)
    return arguments[0] if arguments else typing.Any


def is_mapping(type_: object) -> bool:
    """Say whether the type is written as a mapping with free keys."""
    origin = typing.get_origin(type_) or type_
    return isinstance(origin, type) and issubclass(origin, Mapping)


def type_arguments(type_: object) -> tuple[object, ...]:
    """Return what stands in the type's brackets, or its alternatives if it is a union."""
    return typing.get_args(type_)


def is_literal(type_: object) -> bool:
    """Say whether the type is a choice of words."""
    return typing.get_origin(type_) is Literal


def is_enum(type_: object) -> bool:
    """Say whether the type is an enumeration, written by its labels."""
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


def is_class(type_: object) -> bool:
    """Say whether the type is written as a mapping with known keys."""
    return isinstance(type_, type) and attrs.has(type_) and type_ is not Address


def accepts(type_: object, value: object) -> bool:
    """Say whether ``value`` is of a kind that may be meant for ``type_``; it may still be wrong."""
    if type_ in (typing.Any, object):
        return True
    if alternatives(type_) is not None:
        return any(accepts(member, value) for member in alternatives(type_) or ())
    if is_literal(type_):
        return any(type(value) is type(member) for member in typing.get_args(type_))
    if is_class(type_) or is_mapping(type_):
        short = SHORTHANDS.get(type_) if isinstance(type_, type) else None
        return isinstance(short[1](value) if short else value, dict)
    if is_sequence(type_):
        one_will_do = isinstance(value, str) and accepts(item_type(type_), value)
        return isinstance(value, list) or (one_will_do and not is_class(item_type(type_)))
    if is_enum(type_):
        return isinstance(value, str)
    match value:
        case bool():
            return type_ is bool
        case int():
            return type_ in (int, float, Duration, Size)
        case float():
            return type_ in (float, Duration)
        case str():
            return type_ in (str, bytes, FilePath, File, Duration, Size, Address)
        case None:
            return type_ is type(None)
        case _:
            return False
