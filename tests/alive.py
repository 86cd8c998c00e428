"""What is alive, and what hangs on what: as the collector knows it, whatever it is called within."""

from __future__ import annotations

import gc
from typing import TypeVar

T = TypeVar("T")


def living(kind: type) -> int:
    """Return how many objects of exactly this class there are."""
    gc.collect()  # some hold themselves
    return sum(type(one) is kind for one in gc.get_objects())


def parts(thing: object, kind: type[T]) -> list[T]:
    """Return the objects of a class that a thing refers to itself, each once."""
    found = [*gc.get_referents(thing), *getattr(thing, "__dict__", {}).values()]
    return list({id(one): one for one in found if isinstance(one, kind)}.values())


def part(thing: object, kind: type[T]) -> T:
    """Return the one object of a class that a thing is made of."""
    (found,) = parts(thing, kind)
    return found
