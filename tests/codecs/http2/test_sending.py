"""What both roles send alike: frames that are no message, and header blocks on changing tables."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import (
    GET,
    REQUEST,
    RESPONSE,
    Hand,
    asked,
    client,
    parse,
    server,
    serving,
)
from xproxy.codecs.http2.plugin import Http2Plugin
from xproxy.codecs.http2.sending import Sender
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.wire import GOAWAY, HEADERS, Setting, settings
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, GoAway, Head, Reply, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import recurring
from xproxy.model.traits import Role


def test_frames_that_are_no_message() -> None:
    hand = serving()
    codec = hand.codec
    assert isinstance(codec, Sender)
    assert codec.send(Reply(b"raw")) == b"raw"
    assert codec.send(Credit()) == b""
    assert parse(codec.send(GoAway()))[0].kind == GOAWAY
    with pytest.raises(LocalProtocolError):
        codec.send(Violation("x"))


def test_an_error_does_not_lose_the_preface() -> None:
    codec = client()
    with pytest.raises(LocalProtocolError):
        codec.send(Head(1, RESPONSE))
    assert codec.send(Head(1, REQUEST, b"", end=True)).startswith(b"PRI")


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


def test_connections_that_begin_alike_share_their_tables() -> None:
    plugin = Http2Plugin()
    codecs: list[ServerCodec] = []
    message = recurring(attrs.evolve(RESPONSE, headers=Headers((("server", "x"),))))
    for _ in range(2):
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(codec, ServerCodec)
        Hand(codec).ask(1, GET)
        codec.send(Head(1, message, b"", end=True))
        codecs.append(codec)
    assert codecs[0]._decoder is codecs[1]._decoder
    assert codecs[0]._encoder is codecs[1]._encoder
    assert codecs[0]._encoder.entries == (("server", "x"),)


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


def test_recurring_trailers() -> None:
    hand = serving()
    trailers = Headers((("grpc-status", "0"),))
    sizes = []
    for stream_id in (1, 3):
        hand.ask(stream_id)
        hand.codec.send(Head(stream_id, RESPONSE))
        (seen,) = parse(hand.codec.send(Trailers(stream_id, trailers)))
        assert seen.kind == HEADERS
        sizes.append(len(seen.payload))
    assert sizes[1] == 1


def test_servers_and_clients_have_no_stream_before_one_is_opened() -> None:
    for codec in (server(), asked(()).codec):
        with pytest.raises(LocalProtocolError):
            codec.send(Trailers(1, Headers()))
