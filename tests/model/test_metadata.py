from __future__ import annotations

import pytest

from xproxy.model.metadata import Key, Metadata


def test_keys_are_told_apart_by_identity_not_by_name() -> None:
    one, other = Key[int]("x"), Key[int]("x")
    notes = Metadata()
    notes[one] = 1
    assert notes[one] == 1
    assert notes.get(other) is None
    assert notes.get(other, 7) == 7
    assert other not in notes
    with pytest.raises(KeyError):
        notes[other]


def test_a_request_cannot_collect_without_bound() -> None:
    notes = Metadata()
    keys = [Key[int](str(i)) for i in range(Metadata.LIMIT)]
    for key in keys:
        notes[key] = 0
    notes[keys[0]] = 1  # a known key may change
    with pytest.raises(OverflowError, match="256"):
        notes[Key[int]("one more")] = 1
