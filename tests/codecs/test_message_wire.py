"""What wires and their engine have in common: work that is begun, and messages that are wrong."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from xproxy.codecs.message_wire import NO_HEAD, Kind, Lengthy, Malformed, MalformedMessage, begun
from xproxy.codecs.message_wire import Message as WireMessage

READ: WireMessage = (Kind.HEARTBEAT, 7, NO_HEAD, b"", 12, 0)


def reading(slices: int, wrong: bool = False) -> Generator[None, None, WireMessage]:
    for _ in range(slices):
        yield
    if wrong:
        raise Malformed("no message")
    return READ


def test_what_is_read_in_one_slice_is_there_at_once() -> None:
    assert begun(12, reading(0)) is READ


def test_the_rest_of_long_work_is_given_back_with_the_length() -> None:
    lengthy = begun(12, reading(3))
    assert isinstance(lengthy, Lengthy)
    assert lengthy.length == 12
    assert [next(lengthy.work) for _ in range(2)] == [None, None]
    with pytest.raises(StopIteration) as done:
        next(lengthy.work)
    assert done.value.value is READ


def test_what_is_wrong_in_the_first_slice_is_said_at_once() -> None:
    with pytest.raises(Malformed, match="no message"):
        begun(12, reading(0, wrong=True))


def test_a_message_that_is_wrong_says_who_waits() -> None:
    crime = MalformedMessage("too long", Kind.REQUEST, 7, 2, 12)
    assert isinstance(crime, ValueError)
    assert (str(crime), crime.kind, crime.stream_id, crime.dialect, crime.length) == (
        *("too long", Kind.REQUEST, 7, 2, 12),
    )
