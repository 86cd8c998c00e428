"""Which streams are open, what became of the others, and whose room is whose."""

from __future__ import annotations

import pytest

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.state import Event, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.streams import Past, Streams
from xproxy.codecs.http2.windows import Windows
from xproxy.model.limits import Size


def streams(*, peer_opens: bool = True) -> tuple[Streams, Windows]:
    """A connection whose stream 5 is open, whose 1 was, and whose 3 never was."""
    windows = Windows(Http2Limits(connection_window_bytes=Size(1000)))
    found = Streams(windows, peer_opens=peer_opens)
    for stream_id in (1, 5):
        found.reach(stream_id)
        found.open[stream_id] = Stream(State.OPEN)
    found.end(1, Event.RESET_ARRIVES)
    return found, windows


def test_states_of_all_ids() -> None:
    found, _ = streams()
    states = {stream_id: found.state(stream_id) for stream_id in (0, 1, 2, 3, 5, 6, 7)}
    assert states == {
        0: State.UNUSED,
        1: State.CLOSED,
        2: State.UNUSED,
        3: State.UNUSED,
        5: State.OPEN,
        6: State.UNUSED,
        7: State.IDLE,
    }
    found, _ = streams(peer_opens=False)
    assert found.state(7) is State.UNUSED


def test_what_a_state_does_not_allow_is_a_fault() -> None:
    found, _ = streams()
    for stream_id in (2, 3, 7):
        with pytest.raises(ConnectionFault) as unopened:
            found.judge(Event.DATA_ARRIVE, stream_id)
        assert unopened.value.code is ErrorCode.PROTOCOL_ERROR
    with pytest.raises(ConnectionFault, match="DATA on stream 1, which is closed") as gone:
        found.judge(Event.DATA_ARRIVE, 1)
    assert gone.value.code is ErrorCode.STREAM_CLOSED
    found.judge(Event.RESET_ARRIVES, 1)
    found.judge(Event.DATA_ARRIVE, 5)
    found.received(5, found.open[5])
    with pytest.raises(StreamFault):
        found.judge(Event.DATA_ARRIVE, 5)


@pytest.mark.parametrize(
    ("ended", "event", "after"),
    [
        (False, Event.RESET_LEAVES, State.ABANDONED),
        (True, Event.RESET_LEAVES, State.CLOSED),
        (True, Event.FAULT_IS_FOUND, State.ABANDONED),
        (False, Event.RESET_ARRIVES, State.CLOSED),
    ],
)
def test_resets(ended: bool, event: Event, after: State) -> None:
    found, windows = streams()
    stream = found.open[5]
    stream.grown = 7
    if ended:
        found.received(5, stream)
    assert found.end(5, event) is stream
    assert found.state(5) is after
    assert windows.spare == 1007


def test_room_is_held_until_the_last_byte_is_taken() -> None:
    found, windows = streams()
    stream = found.open[5]
    stream.grown, stream.unconsumed = 7, 10
    found.sent(5, stream)
    assert 5 in found.open
    found.received(5, stream)
    assert not found.open
    found.consumed(5, 9)
    found.consumed(5, -9)
    found.consumed(99, 9)
    assert windows.spare == 1000
    found.consumed(5, 1)
    assert windows.spare == 1007
    found.release(5)
    assert windows.spare == 1007


def test_the_past_is_bounded_and_forgets_to_the_peers_good() -> None:
    past = Past()
    for stream_id in range(1, 2 * Past.ABANDONED + 200, 2):
        past.abandon(stream_id)
    assert len(past.abandoned) == Past.ABANDONED
    assert past.state(1) is State.ABANDONED
    assert past.state(2 * Past.ABANDONED + 199) is State.ABANDONED
    assert past.state(2 * Past.ABANDONED + 201) is State.CLOSED


def test_ids_that_were_passed_over_were_never_opened() -> None:
    """§5.1.1."""
    past = Past()
    for first in range(101, 2001, 100):
        past.skip(first, first + 8)
    assert past.state(1905) is State.UNUSED
    assert past.state(1911) is State.CLOSED
    assert past.state(105) is State.CLOSED
    assert len(past.skipped) == Past.SKIPPED
