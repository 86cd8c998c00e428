"""What a field of a value that is written down may hold, by its annotation: checks of what was read."""

from __future__ import annotations

import math
import socket
import types
import typing
from collections.abc import Callable, Hashable
from typing import Final, TypeAlias

import attrs

Check: TypeAlias = Callable[[object], bool]
"""Whether a value is such a one."""

PLAIN: Final = frozenset({type(None), bool, int, str, bytes})
"""Classes whose values are written as they are; a float is, too, but one may be no number."""


def kinds_of(annotation: object) -> frozenset[type]:
    """Return the classes that an annotation stands for; none: it takes more than a class to tell."""
    if isinstance(annotation, typing.NewType):
        return kinds_of(annotation.__supertype__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        each = [kinds_of(one) for one in typing.get_args(annotation)]
        return frozenset().union(*each) if all(each) else frozenset()
    if isinstance(annotation, type) and (annotation in PLAIN or attrs.has(annotation)):
        return frozenset({annotation})
    return frozenset()


def check_of(annotation: object) -> Check:
    """Return what tells whether a value is such a one. Raises TypeError for what nothing here can be."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (object, Hashable, typing.Any):
        return lambda _: True
    if annotation is float:
        return lambda value: type(value) is float and not math.isnan(value)
    if isinstance(annotation, typing.NewType):
        return check_of(annotation.__supertype__)
    if isinstance(annotation, type) and (annotation in PLAIN or attrs.has(annotation)):
        return lambda value: type(value) is annotation
    if annotation is socket.socket:
        return lambda value: isinstance(value, socket.socket)
    if origin in (typing.Union, types.UnionType):
        checks = [check_of(one) for one in arguments]
        return lambda value: any(check(value) for check in checks)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        of = check_of(arguments[0])
        return lambda value: type(value) is tuple and all(of(item) for item in value)
    if origin is tuple:
        each = [check_of(one) for one in arguments]
        return lambda value: (
            type(value) is tuple
            and len(value) == len(each)
            and all(check(item) for check, item in zip(each, value, strict=True))
        )
    raise TypeError(f"nothing that is written down can be a {annotation}")
