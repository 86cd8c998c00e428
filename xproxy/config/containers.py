"""Hooks for lists, mappings and unions."""

from __future__ import annotations

import typing
from typing import Any, Literal

from cattrs import Converter

from xproxy.config.fields import alternatives
from xproxy.config.findings import Problem, show
from xproxy.config.kinds import (
    accepts,
    container_of,
    describe,
    is_class,
    item_type,
    label,
    unexpected,
)
from xproxy.config.partial import UNREAD, PartlyRead, problems_of, rest_of
from xproxy.config.scalars import Hook


def sequence_hook(type_: Any, converter: Converter) -> Hook:  # Any: a type form, not always a class
    """Read a list. Where its items are single texts, one text stands for a list of one."""
    item = item_type(type_)
    hook = converter.get_structure_hook(item)
    make = container_of(type_) or list
    one_will_do = accepts(item, "text") and not is_class(item)

    def structure(value: object, _: object) -> object:
        if isinstance(value, str) and one_will_do:
            value = [value]
        if not isinstance(value, list):
            raise unexpected(type_, value)
        items: list[object] = []
        problems: list[Problem] = []
        for index, written in enumerate(value):
            try:
                items.append(hook(written, item))
            except Exception as exc:  # a plugin's class may raise anything
                problems += problems_of(exc, (index,))
                items.append(rest_of(exc))
        if problems:
            # What could be read in part cannot be told apart in a set.
            raise PartlyRead(problems, make(items) if make in (tuple, list) else UNREAD)
        return make(items)

    return structure


def mapping_hook(type_: Any, converter: Converter) -> Hook:  # Any: as above
    """Read a mapping with free keys."""
    key_type, item = (*typing.get_args(type_), Any, Any)[:2]
    key_hook, hook = (converter.get_structure_hook(one) for one in (key_type, item))

    def structure(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise unexpected(type_, value)
        items: dict[object, object] = {}
        problems: list[Problem] = []
        for key, written in value.items():
            try:
                read = key_hook(key, key_type)
            except Exception as exc:  # as above
                problems += problems_of(exc, (key,))
                continue
            try:
                items[read] = hook(written, item)
            except Exception as exc:  # as above
                problems += problems_of(exc, (key,))
                items[read] = rest_of(exc)
        if problems:
            raise PartlyRead(problems, items)
        return items

    return structure


def union_hook(type_: Any, converter: Converter) -> Hook:  # Any: as above
    """Read one of several types: a literal if it is one, else the first type whose kind of value this is."""
    members: tuple[Any, ...] = alternatives(type_) or ()  # Any: as above
    literals = [m for m in members if typing.get_origin(m) is Literal]
    others = [m for m in members if typing.get_origin(m) is not Literal]
    words = [
        label(word) for literal in literals for word in typing.get_args(literal) if word is not None
    ]

    def structure(value: object, _: object) -> object:
        for literal in literals:
            for word in typing.get_args(literal):
                if type(value) is type(word) and value == word:
                    return word
        for member in others:
            if accepts(member, value):
                return converter.structure(value, member)
        if isinstance(value, str) and any(isinstance(w, str) for w in words):
            raise Problem(
                f"expected {describe(type_)}, found {show(value)}", name=value, allowed=words
            )
        wanted = [m for m in others if m is not type(None)]
        if len(wanted) == 1 and not words:
            raise unexpected(wanted[0], value)
        raise unexpected(type_, value)

    return structure
