"""Reading: many frames at once, whole messages in one frame, and bytes that nobody gets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    RESPONSE,
    UPLOAD,
    asked,
    data,
    heads,
    parse,
    replies,
    resets,
    server,
    serving,
)
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import rst_stream
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.limits import Limits


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


def test_trailers_without_a_field_that_may_stand_there_just_end() -> None:
    hand = serving()
    frames = hand.say(
        hand.head(1, POST, end=False), data(1, b"x"), hand.head(1, (("content-type", "a"),))
    )
    assert not [f for f in frames if isinstance(f, Trailers)]
    (head,) = heads(frames)
    assert (head.data, head.end) == (b"x", True)


def test_every_whole_frame_says_something() -> None:
    """No frames at all means that something is half here: the driver counts on it."""
    hand = serving()
    for wire in (rst_stream(1, 8),):
        hand.ask(1)
        assert hand.say(wire)
        assert hand.say(wire)
    whole = hand.head(3, GET)
    assert hand.say(whole[:8]) == []
    assert hand.say(whole[8:-1]) == []
    assert hand.say(whole[-1:])


def test_the_end_of_input_completes_nothing() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.say(data(1, b"half")[:10])
    assert hand.codec.receive(None) == []
    assert hand.codec.receive(data(1, b"x")) == ()
    assert hand.codec.send(Head(1, RESPONSE, b"still", end=True))


def test_a_stream_fault_gives_back_what_nobody_will_consume() -> None:
    hand = asked((UPLOAD,))
    hand.ask(1, (*OK, ("content-length", "1")), end=False)
    before = hand.codec._intake.window + hand.codec._intake.owed
    frames = hand.say(data(1, b"x"), data(1, b"too much"))
    assert resets(frames) == {1: ErrorCode.PROTOCOL_ERROR}
    assert hand.codec._intake.window + hand.codec._intake.owed == before
    assert hand.codec.consumed(1, 1) == b""  # the driver gives it back too: once is enough
    assert hand.codec._intake.window + hand.codec._intake.owed == before


def test_padding_is_given_back_at_once() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    intake = hand.codec._intake
    before = intake.window + intake.owed
    hand.say(data(1, b"abc", padding=100))
    assert intake.window + intake.owed == before
    assert hand.codec._streams[1].owed == 101


def test_a_peer_may_reset_and_the_driver_learns_it_once() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    frames = hand.say(rst_stream(1, 8) + rst_stream(1, 8))
    assert len([f for f in frames if isinstance(f, Reset)]) == 1


@pytest.mark.parametrize("size", [17_000, 70_000])
def test_a_head_above_its_limit_is_not_even_buffered(size: int) -> None:
    codec = server(Limits(max_head_bytes=4096))
    codec.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    head = size.to_bytes(3, "big") + b"\x01\x05\0\0\0\x01"
    frames = codec.receive(head)
    assert frames[-1].__class__.__name__ == "Violation"
    assert codec._buffer is None


def test_recurring_heads_are_the_same_objects_on_all_connections() -> None:
    hand = serving()
    first = heads(hand.ask(1, (*GET, ("x", "1"))))[0].message
    again = heads(hand.ask(3, (*GET, ("x", "1"))))[0].message
    third = heads(hand.ask(5, (*GET, ("x", "1"))))[0].message
    assert again is third
    assert first == again


def test_replies_are_in_order() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    assert [s.kind for s in parse(replies(hand.say(data(1, b"x", end=True))))] == []
