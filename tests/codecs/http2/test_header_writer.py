"""Header blocks out, on a table that grows, and that the peer bounds."""

from __future__ import annotations

import attrs

from tests.codecs.http2.driving import (
    RESPONSE,
    parse,
    serving,
)
from xproxy.codecs.http2.wire import Setting, settings
from xproxy.model.frames import Head
from xproxy.model.headers import Headers


def test_the_same_message_gives_the_same_bytes() -> None:
    hand = serving()
    message = attrs.evolve(RESPONSE, headers=Headers((("server", "x"), ("date", "today"))))
    blocks = []
    for stream_id in (1, 3, 5):
        hand.ask(stream_id)
        (seen,) = parse(hand.codec.send(Head(stream_id, message, b"", end=True)))
        assert hand.fields(seen)[1:] == list(message.headers.pairs)
        blocks.append(seen.payload)
    assert len(blocks[0]) > len(blocks[1])
    assert blocks[1] == blocks[2]


def test_a_smaller_table_is_announced_by_the_next_block() -> None:
    """RFC 9113 §4.3.1, RFC 7541 §4.2: the smallest since the last block, then the last."""
    hand = serving()
    for stream_id, sizes, expected in (
        (1, (0,), "20"),
        (3, (), ""),
        (5, (10_000,), "3fe11f"),
        (7, (50, 4096), "3f133fe11f"),
        (9, (4096,), ""),
        (11, (100, 20, 60), "343f1d"),
    ):
        hand.ask(stream_id)
        for size in sizes:
            hand.say(settings(((Setting.HEADER_TABLE_SIZE, size),)))
        hand.decoder.max_allowed_table_size = 4096
        (seen,) = parse(hand.codec.send(Head(stream_id, RESPONSE, b"", end=True)))
        assert seen.payload.hex() == expected + "88"
        assert hand.fields(seen) == [(":status", "200")]


def test_each_table_size_of_one_settings_frame_counts() -> None:
    """RFC 9113 §6.5.3, RFC 7541 §4.2: nghttp says 0 and then 65,536, and wants to be told of both."""
    hand = serving()
    hand.ask(1)
    hand.say(settings(tuple((Setting.HEADER_TABLE_SIZE, size) for size in (0, 65_536))))
    (seen,) = parse(hand.codec.send(Head(1, RESPONSE, b"", end=True)))
    assert seen.payload.hex() == "203fe11f88"
