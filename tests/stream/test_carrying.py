from __future__ import annotations

import pytest

from xproxy.stream.carrying import MAX_NAME, CarriedAs, SupportsCarry, cut_now, seconds_left


class Part:
    def carried_as(self) -> CarriedAs:
        return CarriedAs(kind="tests", name="part", version=1)

    def carry(self) -> bytes:
        return b""

    def resume(self, data: bytes) -> None:
        raise ValueError(data)


def test_whatever_has_the_three_methods_is_a_part() -> None:
    assert isinstance(Part(), SupportsCarry)
    assert not isinstance(object(), SupportsCarry)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1)])
def test_a_name_has_some_characters(name: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        CarriedAs(kind=name, name="x", version=1)
    with pytest.raises(ValueError, match="characters"):
        CarriedAs(kind="x", name=name, version=1)


@pytest.mark.parametrize("version", [-1, 2**31])
def test_a_version_is_a_small_number(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        CarriedAs(kind="x", name="x", version=version)


def test_the_way_is_taken_off() -> None:
    left = seconds_left(10.0, cut_now() - 4.0)
    assert 5.0 < left <= 6.0
    assert seconds_left(10.0, cut_now() - 11.0) == 0.0
    assert seconds_left(10.0, cut_now() + 1000.0) == 10.0, "of a machine with another clock"
