"""A link's state, written down and read back."""

from __future__ import annotations

import attrs
import pytest

from xproxy.codecs.relay.codec import opened, restored
from xproxy.codecs.relay.snapshot import MOST_CREDIT, SCHEMA
from xproxy.codecs.relay.state import State, Stream
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role

FULL = State(
    Role.CLIENT,
    whole=True,
    streams={
        1: Stream(credit=7, speaking=False, spoken=True),
        2**64 - 1: Stream(hearing=False, heard=True),
    },
    held=b"half a frame",
    bye=True,
    violated=True,
)


def test_all_of_it_comes_back() -> None:
    found = SCHEMA.unpack(SCHEMA.pack(FULL))
    assert attrs.asdict(found) == attrs.asdict(FULL)


def test_a_fresh_one_is_next_to_nothing() -> None:
    assert SCHEMA.pack(State(Role.SERVER)) == b"\x93\xa5relay\x01\x81\xa4role\xa6server"


@pytest.mark.parametrize("credit", [-1, MOST_CREDIT + 1])
def test_credit_out_of_its_range_is_refused(credit: int) -> None:
    state = State(Role.SERVER, streams={1: Stream(credit=credit)})
    with pytest.raises(ValueError, match="credit"):
        SCHEMA.unpack(SCHEMA.pack(state))


def test_the_other_side_and_too_many_streams_are_refused() -> None:
    codec = opened(Role.SERVER, DEFAULT_LIMITS)
    for stream_id in (1, 3):
        codec.begin(stream_id, complete=True, begun=False)
    state = codec.snapshot()
    with pytest.raises(ValueError, match="other side"):
        restored(state, Role.CLIENT, DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="2 streams, limit 1"):
        restored(state, Role.SERVER, Limits(max_streams=1))
