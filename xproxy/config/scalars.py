"""Hooks for single values: strict, as no text becomes a number and no number a flag."""

from __future__ import annotations

import enum
import ipaddress
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final, TypeAlias

from xproxy.config.findings import Problem, show
from xproxy.config.kinds import enum_labels, label, unexpected
from xproxy.config.units import (
    duration_suggestion,
    parse_duration,
    parse_size,
    size_suggestion,
)
from xproxy.model.address import Address, NotAnAddress
from xproxy.model.limits import Duration, Size

Hook: TypeAlias = Callable[[Any, Any], Any]  # Any: cattrs' own contract, (value, type) → value


def _structure_text(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    raise unexpected(str, value)


def _structure_int(value: object, _: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise unexpected(int, value)


def _structure_float(value: object, _: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise unexpected(float, value)


def _structure_bool(value: object, _: object) -> bool:
    if isinstance(value, bool):
        return value
    guess = {"on": "true", "yes": "true", "off": "false", "no": "false"}
    problem = unexpected(bool, value)
    problem.suggestion = guess.get(value.lower(), "") if isinstance(value, str) else ""
    raise problem


def _structure_none(value: object, _: object) -> None:
    if value is not None:
        raise unexpected(type(None), value)


def _structure_any(value: object, _: object) -> object:
    return value


def _structure_duration(value: object, _: object) -> float:
    return _measure(value, Duration, parse_duration, duration_suggestion)


def _structure_size(value: object, _: object) -> int:
    return _measure(value, Size, parse_size, size_suggestion)


_N = typing.TypeVar("_N", int, float)


def _measure(
    value: object, type_: object, parse: Callable[[str], _N], suggest: Callable[[str], str]
) -> _N:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        try:
            return parse(text)
        except ValueError as exc:
            raise Problem(f"{exc}, found {show(value)}", suggestion=suggest(text)) from exc
    raise unexpected(type_, value)


def _structure_address(value: object, _: object) -> Address:
    if not isinstance(value, str):
        raise unexpected(Address, value)
    try:
        return Address.parse(value)
    except ipaddress.AddressValueError as exc:
        raise Problem(f"{show(value)} is not an IPv6 address and port: {exc}") from exc
    except ValueError as exc:
        suggestion = exc.suggestion if isinstance(exc, NotAnAddress) else ""
        raise Problem(str(exc), suggestion=suggestion) from exc


def _structure_bytes(value: object, _: object) -> bytes:
    return _structure_text(value, str).encode()


def _structure_path(value: object, _: object) -> FilePath:
    return FilePath(_structure_text(value, str))


def structure_literal(value: object, type_: object) -> object:
    """Read one of a few words."""
    members = typing.get_args(type_)
    for member in members:
        if type(value) is type(member) and value == member:
            return member
    raise _no_member(value, [label(member) for member in members])


def structure_enum(value: object, type_: type[enum.Enum]) -> enum.Enum:
    """Read a member by its label."""
    if isinstance(value, str):
        for member, text in zip(type_, enum_labels(type_), strict=True):
            if value == text:
                return member
    raise _no_member(value, enum_labels(type_))


def _no_member(value: object, allowed: Sequence[str]) -> Problem:
    name = value if isinstance(value, str) else ""
    return Problem(f"found {show(value)}", name=name, allowed=allowed)


def _unless_enum(hook: Hook) -> Hook:
    # cattrs takes a built-in type's hook for its subclasses too, and an IntEnum is an int.
    def structure(value: object, type_: object) -> object:
        if isinstance(type_, type) and issubclass(type_, enum.Enum):
            return structure_enum(value, type_)
        return hook(value, type_)

    return structure


BUILTIN_HOOKS: Final[Mapping[type, Hook]] = {
    str: _unless_enum(_structure_text),
    int: _unless_enum(_structure_int),
    float: _unless_enum(_structure_float),
    bool: _structure_bool,
    bytes: _structure_bytes,
    FilePath: _structure_path,
}
"""For classes that cattrs has hooks of its own for."""
SCALAR_HOOKS: Final[Mapping[object, Hook]] = {
    type(None): _structure_none,
    typing.Any: _structure_any,
    object: _structure_any,
    Duration: _structure_duration,
    Size: _structure_size,
    Address: _structure_address,
}
"""For all other types of single values."""
