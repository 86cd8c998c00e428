"""Values that could be read in part only: what is wrong with them, and what there is of them all the same.

Checks go over such a value as over a whole one, so that one mistake does not hide another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from cattrs.errors import AttributeValidationNote, IterableValidationNote

from xproxy.config.findings import Path, Problem

T = TypeVar("T")


class _Unread:
    """See ``UNREAD``. It is true and not None, like most of what is given."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNREAD"


UNREAD: Final[Any] = _Unread()  # Any: it stands in fields of any type
"""Stands where something is written that could not be read, or that was probably meant by a misspelt key. What it
should be is told already: nothing else is doubted because of it."""


class PartlyRead(ExceptionGroup[Problem]):
    """Something is wrong within a value. ``at`` of its problems leads from that value down."""

    problems: Sequence[Problem]
    value: Any  # Any: of the type that was to be read
    """The value, with UNREAD where a part could not be read; UNREAD itself if there is nothing of it."""

    def __new__(cls, problems: Sequence[Problem], value: object = UNREAD) -> PartlyRead:
        """Hold ``problems``, at least one."""
        made = super().__new__(cls, "partly read", problems)
        made.problems = problems
        made.value = value
        return made


def problems_of(error: Exception, path: Path = ()) -> Iterator[Problem]:
    """Give every problem in what a converter raised, with ``at`` from ``path`` on."""
    match error:
        case ExceptionGroup():
            for inner in error.exceptions:
                yield from problems_of(inner, path + _step(inner))
        case Problem():
            error.at = path + error.at
            yield error
        case _:
            known = isinstance(error, ValueError | TypeError | re.error)
            text = text_of(error)
            yield Problem(text if known else f"{type(error).__name__}: {text}", at=path)


def rest_of(error: Exception) -> Any:  # Any: as in PartlyRead
    """Return what there is of the value for which a converter raised ``error``."""
    return error.value if isinstance(error, PartlyRead) else UNREAD


def text_of(error: Exception) -> str:
    """Return what an exception says."""
    # attrs' validators hand over (message, attribute, …); KeyError would show the repr of its key.
    return str(error.args[0]) if error.args else type(error).__name__


def _step(error: Exception) -> Path:
    # cattrs' own containers say so where in them something is wrong.
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def parts(items: Sequence[T] | None) -> Iterator[tuple[int, T]]:
    """Give the items of a list that could be read, with their indices; of None nothing."""
    if items and items is not UNREAD:
        for index, item in enumerate(items):
            if item is not UNREAD:
                yield index, item


def entries(items: Mapping[str, T] | None) -> Iterator[tuple[str, T]]:
    """Give the values of a mapping that could be read, with their keys; of None nothing."""
    if items and items is not UNREAD:
        for key, item in items.items():
            if item is not UNREAD:
                yield key, item
