"""What codecs can do beyond the contract, asked of their classes once."""

from __future__ import annotations

import gc
import weakref

from xproxy.codecs.api import SupportsGoAway, SupportsHeartbeat, SupportsProgress, supports


class Silent:
    asked = 0

    @property
    def unfinished(self) -> bool:
        type(self).asked += 1
        return False

    def goaway(self) -> bytes:
        return b"bye"


def test_a_contract_is_kept_by_whoever_has_its_parts() -> None:
    thing = Silent()
    assert supports(thing, SupportsGoAway)
    assert supports(thing, SupportsProgress)
    assert not supports(thing, SupportsHeartbeat)
    assert not supports(object(), SupportsGoAway)


def test_each_class_is_asked_once() -> None:
    class Another(Silent):
        asked = 0

    for _ in range(3):
        assert supports(Another(), SupportsProgress)
    assert Another.asked <= 1


def test_the_answers_are_bounded() -> None:
    kinds: list[weakref.ref[type]] = []
    for number in range(5000):
        kind = type(f"Kind{number}", (Silent,), {})
        assert supports(kind(), SupportsGoAway)
        kinds.append(weakref.ref(kind))
    gc.collect()  # a class knows itself
    assert 0 < sum(kind() is not None for kind in kinds) <= 4096
