"""What lives for long is frozen, and let out when all of it has been replaced, and more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from xproxy.proxy.collector import FRESH_PERCENT, REPLACED_PERCENT, THRESHOLDS, Collector

_MANY = 1000


class Circle:
    """What only a collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def lost() -> weakref.ref[Circle]:
    return weakref.ref(Circle())


def test_what_is_frozen_is_not_looked_at_until_much_has_been_replaced() -> None:
    collector = Collector()
    circle = Circle()
    collector.tune()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count() > 0
    gone = weakref.ref(circle)
    del circle
    gc.collect()
    assert gone() is not None, "it is frozen"
    due = _MANY * REPLACED_PERCENT // 100
    collector.replaced(due - 1)
    collector.look(_MANY)
    assert gone() is not None
    collector.replaced(1)
    collector.look(_MANY)
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_it_counts_from_the_last_time() -> None:
    collector = Collector()
    collector.tune()
    collector.replaced(_MANY * REPLACED_PERCENT // 100)
    collector.look(_MANY)
    gc.disable()
    try:
        gone = lost()
        collector.replaced(1)
        collector.look(_MANY)
        assert gone() is not None
    finally:
        gc.enable()


def test_what_is_new_is_frozen_when_it_is_much() -> None:
    collector = Collector()
    collector.tune()
    circle = Circle()
    due = _MANY * FRESH_PERCENT // 100
    collector.replaced(due - 1)
    collector.look(_MANY)
    frozen = gc.get_freeze_count()
    collector.replaced(1)
    collector.look(_MANY)
    assert gc.get_freeze_count() > frozen
    gone = weakref.ref(circle)
    del circle
    gc.collect()
    assert gone() is not None


def test_few_are_not_worth_it_and_untuned_it_does_nothing() -> None:
    gc.disable()
    try:
        collector = Collector()
        gone = lost()
        collector.replaced(_MANY * REPLACED_PERCENT)
        collector.look(_MANY)
        assert gone() is not None
        collector.tune()
        gone = lost()
        collector.replaced(5)
        collector.look(5)
        assert gone() is not None
    finally:
        gc.enable()
