"""DATA in: joined into few pieces, counted, given credit for."""

from __future__ import annotations

from collections.abc import Sequence

from tests.codecs.http2.driving import (
    OK,
    POST,
    UPLOAD,
    Hand,
    asked,
    data,
    resets,
    serving,
    state_of,
)
from xproxy.codecs.http2.status import ErrorCode
from xproxy.model.frames import Data, Frame, Head, Trailers


def messages(frames: Sequence[Frame]) -> list[Head | Data | Trailers]:
    return [f for f in frames if isinstance(f, Head | Data | Trailers)]


def test_a_message_that_came_whole_is_one_frame() -> None:
    hand = serving()
    frames = hand.say(hand.head(1, POST, end=False), data(1, b"body"), data(1, b"", end=True))
    (head,) = messages(frames)
    assert isinstance(head, Head)
    assert (head.data, head.end) == (b"body", True)


def test_small_pieces_of_a_body_are_joined() -> None:
    """A peer may cut a body into bytes: who takes it need not do so for each of them."""
    hand = serving()
    pieces = [data(1, b"x") for _ in range(5)]
    frames = messages(hand.say(hand.head(1, POST, end=False), *pieces, data(1, b"", end=True)))
    assert [f.data for f in frames if isinstance(f, Head | Data)] == [b"x", b"xxxx"]
    assert frames[-1] == Data(1, b"xxxx", True)


def test_bodies_are_not_copied_together() -> None:
    """Joining all pieces one by one would be quadratic."""
    hand = serving()
    pieces = [data(1, bytes(1500)) for _ in range(7)]
    frames = messages(hand.say(hand.head(1, POST, end=False), *pieces, data(1, b"", end=True)))
    sizes = [len(f.data) for f in frames if isinstance(f, Head | Data)]
    assert sizes == [1500, 3000, 3000, 3000]
    assert frames[-1] == Data(1, bytes(3000), True)


def test_streams_take_turns() -> None:
    hand = serving()
    frames = hand.say(
        hand.head(1, POST, end=False),
        hand.head(3, POST, end=False),
        data(1, b"a"),
        data(3, b"b"),
        data(1, b"c", end=True),
        data(3, b"", end=True),
    )
    assert [(f.stream_id, getattr(f, "data", b"")) for f in messages(frames)] == [
        (1, b""),
        (3, b""),
        (1, b"ac"),  # tiny pieces join those before, also round others' pieces
        (3, b"b"),
    ]
    assert [f for f in frames if isinstance(f, Data)] == [Data(1, b"ac", True), Data(3, b"b", True)]


def owed_or_open(hand: Hand) -> int:
    """What the peer may send on the connection, now or once it has the credit that is owed."""
    state = state_of(hand.codec)
    return state.inbound + state.owed


def test_a_stream_fault_gives_back_what_nobody_will_consume() -> None:
    hand = asked((UPLOAD,))
    hand.ask(1, (*OK, ("content-length", "1")), end=False)
    before = owed_or_open(hand)
    frames = hand.say(data(1, b"x"), data(1, b"too much"))
    assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}
    assert owed_or_open(hand) == before
    assert hand.codec.consumed(1, 1) == b""  # the driver gives it back too: once is enough
    assert owed_or_open(hand) == before


def test_padding_is_given_back_at_once() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    before = owed_or_open(hand)
    hand.say(data(1, b"abc", padding=100))
    assert owed_or_open(hand) == before
    assert state_of(hand.codec).streams[1].owed == 101
