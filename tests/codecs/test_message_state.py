"""The state of a message protocol comes back, as it was written by any version, and every other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgpack
import pytest

from xproxy.codecs.bolt.wire import BoltWire
from xproxy.codecs.message_state import VERSION, MessageState, schema
from xproxy.codecs.messages import MessageCodec
from xproxy.codecs.packing import pack_state
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role

WIRE: Final = BoltWire()
SCHEMA: Final = schema("bolt")
LARGE: Final = {1 << 63: 0, 1 << 70: 5, -1: 0, (1 << 63) - 1: 0}
"""Ids at the ends of what msgpack's numbers say, and beyond."""


def request(stream_id: int, data: bytes = b"body") -> bytes:
    return WIRE.request(stream_id, RequestHead(service="s", method="m"), data)


def after(data: bytes, limits: Limits = DEFAULT_LIMITS) -> MessageCodec:
    codec = MessageCodec(WIRE, Role.SERVER, limits)
    codec.receive(data)
    return codec


def owing_large() -> MessageCodec:
    codec = MessageCodec(WIRE, Role.SERVER, DEFAULT_LIMITS)
    codec.load(SCHEMA.pack(state(owed={1 << 63: 0, 1 << 70: 5})))
    return codec


# A codec in some state, and its ``snapshot().hex()``: as it was when fields had places (version 2, by the last commit
# that wrote it), and as it is (version 3).
GOLDEN: list[tuple[Callable[[], MessageCodec], str, str]] = [
    (
        lambda: after(b""),
        "99a4626f6c7402c4008000c2c20000",
        "93a4626f6c740380",
    ),
    (
        lambda: after(request(1) + request(-2) + request(3)[:5]),
        "99a4626f6c7402c40501010001018201ce01000001fece01000001ce01000001c2c20000",
        "93a4626f6c740383a468656c64c4050101000101a46f7765648201ce01000001fece01000001a7646961"
        "6c656374ce01000001",
    ),
    (
        lambda: after(b"".join(request(number) for number in range(1, 33))),
        "99a4626f6c7402c400de002001ce0100000102ce0100000103ce0100000104ce0100000105ce01000001"
        "06ce0100000107ce0100000108ce0100000109ce010000010ace010000010bce010000010cce01000001"
        "0dce010000010ece010000010fce0100000110ce0100000111ce0100000112ce0100000113ce01000001"
        "14ce0100000115ce0100000116ce0100000117ce0100000118ce0100000119ce010000011ace01000001"
        "1bce010000011cce010000011dce010000011ece010000011fce0100000120ce01000001ce01000001c2"
        "c20000",
        "93a4626f6c740382a46f776564de002001ce0100000102ce0100000103ce0100000104ce0100000105ce"
        "0100000106ce0100000107ce0100000108ce0100000109ce010000010ace010000010bce010000010cce"
        "010000010dce010000010ece010000010fce0100000110ce0100000111ce0100000112ce0100000113ce"
        "0100000114ce0100000115ce0100000116ce0100000117ce0100000118ce0100000119ce010000011ace"
        "010000011bce010000011cce010000011dce010000011ece010000011fce0100000120ce01000001a764"
        "69616c656374ce01000001",
    ),
    (
        lambda: after(request(7, b"x" * 100)[:60], Limits(max_message_bytes=64)),
        "99a4626f6c7402c4008000c2c201ccb9",
        "93a4626f6c740382a77265667573656401a4736b6970ccb9",
    ),
    (
        lambda: after(b"\xff"),
        "99a4626f6c7402c4008000c2c30000",
        "93a4626f6c740381a46f766572c3",
    ),
    (
        owing_large,
        "99a4626f6c7402c40082b33932323333373230333638353437373538303800b6313138303539313632"
        "303731373431313330333432340500c2c20000",
        "93a4626f6c740381a46f77656482c408800000000000000000c40940000000000000000005",
    ),
]


@pytest.mark.parametrize(
    ("make", "version_2", "version_3"), GOLDEN, ids=[one[1][:60] for one in GOLDEN]
)
def test_states_that_were_written_once_are_read(
    make: Callable[[], MessageCodec], version_2: str, version_3: str
) -> None:
    assert make().snapshot().hex() == version_3
    for written in (version_2, version_3):
        restored = after(b"")
        restored.load(bytes.fromhex(written))
        assert restored.snapshot().hex() == version_3


def state(
    *,
    held: bytes = b"",
    owed: dict[int, int] | None = None,
    dialect: int = 0,
    over: bool = False,
    skip: int = 0,
) -> MessageState:
    return MessageState(
        held=held,
        owed=owed or {},
        dialect=dialect,
        goaway_heard=False,
        over=over,
        refused=0,
        skip=skip,
    )


@pytest.mark.parametrize(
    "found",
    [state(), state(owed=LARGE), state(held=b"x", dialect=2**64 - 1), state(skip=5)],
    ids=str,
)
def test_a_state_comes_back(found: MessageState) -> None:
    assert SCHEMA.unpack(SCHEMA.pack(found)) == found
    assert list(SCHEMA.unpack(SCHEMA.pack(found)).owed) == list(found.owed)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"owed": {"1": 1}}, "owed, which has an item that is no id"),
        ({"owed": {1: "1"}}, "owed, which has an item that is no number"),
        ({"owed": {1: -1}}, "owed, which has an item that is -1"),
        ({"owed": {True: 1}}, "is no id"),
        ({"owed": {1 << 63: 1}}, "is no id"),
        ({"owed": {b"\x01": 1}}, "is no id"),
        ({"owed": {b"": 1}}, "is no id"),
        ({"owed": {b"\x00" + b"\xff" * 8: 1}}, "is no id"),
        ({"owed": {b"\xff" * 3000: 1}}, "is no id"),
        ({"dialect": -1}, "dialect, which is -1"),
        ({"goaway_heard": 0}, "goaway_heard, which is no bool"),
        ({"held": "x"}, "held, which is no bytes"),
        ({"refused": -1}, "refused, which is -1"),
        ({"skip": -1}, "skip, which is -1"),
        ({"skip": 1, "held": b"x"}, "skips bytes and holds some"),
        ({"skip": 1, "over": True}, "skips bytes and holds some"),
        ({"other": 1}, "an unknown field 'other'"),
    ],
)
def test_other_states_are_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=f"a snapshot of bolt .*{why}"):
        SCHEMA.unpack(pack_state("bolt", VERSION, (fields,)))


@pytest.mark.parametrize(
    "fields",
    [
        (b"", {"1": 1}, 0, False, False, 0, 0),
        (b"", {"9" * 4000: 1}, 0, False, False, 0, 0),
        (b"", {b"\xff" * 8: 1}, 0, False, False, 0, 0),
        (b"", {1: "1"}, 0, False, False, 0, 0),
        (b"", {1: -1}, 0, False, False, 0, 0),
        (b"", {}, -1, False, False, 0, 0),
        (b"", {}, 0, 0, False, 0, 0),
        ("", {}, 0, False, False, 0, 0),
        (b"", {}, 0, False, False, 0),
        (b"x", {}, 0, False, False, 0, 1),
        (b"", {}, 0, False, True, 0, 1),
        (b"", {}, 0, False, False, 0, -1),
    ],
)
def test_other_states_of_version_2_are_refused(fields: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="a snapshot of bolt"):
        SCHEMA.unpack(pack_state("bolt", 2, fields))


def test_a_state_is_that_of_its_protocol() -> None:
    with pytest.raises(ValueError, match="not a snapshot of dubbo"):
        schema("dubbo").unpack(SCHEMA.pack(state()))
    assert msgpack.unpackb(SCHEMA.pack(state())) == ["bolt", VERSION, {}]
