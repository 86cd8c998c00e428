"""Messages of a takeover: each comes back as it went, and nothing else does."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.migration.messages import (
    MAX_WHY,
    SKIPPABLE_FROM,
    Accepting,
    Carry,
    Counts,
    Done,
    Hello,
    Message,
    Offer,
    Ready,
    Refused,
    Settled,
    StateVersions,
    Stopped,
    Taken,
    Withdraw,
    pack,
    unpack,
)
from xproxy.transport.channel import MAX_MESSAGE_BYTES

STATES = (StateVersions(name="http2", writes=5, reads=(3, 4, 5)), StateVersions(name="other"))
MESSAGES: list[Message] = [
    Hello(versions=(1, 2), software="xproxy 1", descriptors=1024, used=7, rehearsal=True),
    Hello(versions=(1,), software="xproxy 2", to_come=3, states=STATES),
    Settled(left={"http1": 2}),
    Carry(kind="listener", name="edge", version=1),
    Carry(kind="", name="", version=0, last=True),
    Ready(listeners=("edge", "(admin)")),
    Stopped(last_id=0),
    Accepting(),
    Offer(number=1, cut=12345.5),
    Taken(numbers=(1, 2, 3)),
    Refused(number=4, why="no such listener"),
    Refused(number=4, why="full", for_ever=False),
    Counts(left={"http1": 3}),
    Withdraw(why="it stalled"),
    Done(left={}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_comes_back_as_it_went(message: Message) -> None:
    assert unpack(pack(message)) == message


def test_a_message_of_a_later_release_is_passed_over_if_it_says_so() -> None:
    assert unpack(msgpack.packb([SKIPPABLE_FROM, {"anything": [1]}])) is None
    with pytest.raises(ValueError, match="unknown kind 127"):
        unpack(msgpack.packb([SKIPPABLE_FROM - 1, {}]))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([1, {"versions": [], "software": "x"}], "versions, which is empty"),
        ([1, {"versions": [1]}], "has no software"),
        ([1, {"versions": [1], "software": "x", "more": 1}], "unknown field 'more'"),
        ([7, {"numbers": [0]}], "not 1"),
        ([7, {"numbers": [True]}], "no number"),
        ([7, {"numbers": list(range(1, 400))}], "limit 256"),
        ([6, {"number": 1, "cut": float("nan")}], "is no time"),
        ([6, {"number": 1, "cut": -1.0}], "is no time"),
        ([8, {"number": 1, "why": "x" * (MAX_WHY + 1)}], "limit"),
        ([9, {"left": {"a": -1}}], "not 0"),
        ([3, []], "is no map"),
        ([3], "no message"),
        ({}, "no message"),
        (["3", {}], "no message"),
    ],
)
def test_what_is_none_is_refused(found: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpack(msgpack.packb(found))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        bytes(MAX_MESSAGE_BYTES + 1),
        b"\x92\x01",
        b"\x91" * 2000 + b"\x01",
        b"\x92\x03\xd4\x01\x00",
        msgpack.packb(msgpack.Timestamp(1, 2)),
        b"\x92\x03\x81\x80\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xa1\xff",
    ],
    ids=range(10),
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="message"):
        unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except ValueError:
        return
