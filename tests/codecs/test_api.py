"""What codecs can do beyond the contract, asked of their classes once."""

from __future__ import annotations

import xproxy.codecs.api as api
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
    for number in range(api._MOST_ANSWERS + 10):
        assert supports(type(f"Kind{number}", (Silent,), {})(), SupportsGoAway)
    assert len(api._ANSWERS) <= api._MOST_ANSWERS
