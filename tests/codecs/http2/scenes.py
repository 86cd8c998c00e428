"""Codecs in states worth writing down. What they wrote once is in ``states.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    REQUEST,
    RESPONSE,
    UPLOAD,
    Hand,
    asked,
    continuations,
    data,
    half_closed,
    server,
    serving,
    waiting,
)
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.wire import Setting, settings, window_update
from xproxy.model.frames import Data, Head, Reset
from xproxy.model.headers import Headers
from xproxy.model.limits import Size
from xproxy.model.status import Status

STATES = Path(__file__).parent / "states.json"
"""For each scene what ``snapshot`` returned, in hex, by version: older ones as their last release wrote them."""
WAITING = "requests that wait"
"""No scene any more: a codec holds none of them since version 5."""


def _untouched() -> Hand:
    return Hand(server(), started=False)


def _half_a_preface() -> Hand:
    hand = Hand(server(), started=False)
    hand.say(b"PRI * HTTP/2.0\r\n\r\nSM\r")
    return hand


def _unacknowledged() -> Hand:
    hand = Hand(server(own=Http2Limits(table_bytes=Size(100))), started=False)
    hand.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings(()))
    return hand


def _busy() -> Hand:
    """Four streams: a body under way, half-closed either way, and a call; and settings of all kinds."""
    hand = serving()
    values = (
        (Setting.INITIAL_WINDOW_SIZE, 100),
        (Setting.HEADER_TABLE_SIZE, 60),
        (Setting.MAX_FRAME_SIZE, 20_000),
        (Setting.MAX_HEADER_LIST_SIZE, 9_999),
        (Setting.MAX_CONCURRENT_STREAMS, 7),
    )
    hand.say(settings(values), window_update(0, 11))
    hand.ask(1, (*POST, ("x-a", "1"), ("content-length", "9")), end=False)
    hand.say(data(1, b"1234"))
    hand.codec.consumed(1, 3)
    hand.ask(3)
    hand.codec.send(Head(3, attrs.evolve(RESPONSE, headers=Headers((("content-length", "5"),)))))
    hand.codec.send(Data(3, b"abc"))
    hand.ask(5, POST, end=False)
    hand.codec.send(Head(5, RESPONSE, b"", True))
    hand.ask(9, (*POST, ("content-type", "application/grpc"), ("te", "trailers")), end=False)
    hand.codec.elapsed(1.5)
    return hand


def _past() -> Hand:
    """A stream abandoned, ids passed over, and room that is held."""
    hand = asked((UPLOAD, REQUEST), own=Http2Limits(connection_window_bytes=Size(100_000)))
    hand.codec.send(Reset(1, Status.CANCELLED))
    hand.codec.send(Head(9, REQUEST, b"", True))
    hand.say(hand.head(3, OK, end=False), data(3, bytes(16_384)), data(3, bytes(16_384)))
    hand.codec.consumed(3, 32_768)
    hand.say(data(3, bytes(900), end=True))
    return hand


def _within_a_frame() -> Hand:
    hand = serving()
    hand.ask(1, POST, end=False)
    hand.say(data(1, bytes(100))[:50])
    return hand


def _within_a_block() -> Hand:
    hand = serving()
    block = hand.block((*GET, ("x", "y" * 20)))
    hand.say(continuations(1, block, (7, 9))[: 9 + 7 + 9 + 9 + 4])
    return hand


def _draining() -> Hand:
    hand = half_closed()
    hand.codec.goaway()
    return hand


def _leaving() -> Hand:
    hand = waiting()
    hand.codec.goaway()
    return hand


def _crowded() -> Hand:
    """As many requests as the server takes, one of them with its body to come."""
    hand = asked(())
    hand.say(settings(((Setting.MAX_CONCURRENT_STREAMS, 2),)))
    for head in (Head(1, REQUEST, b"", True), Head(3, UPLOAD)):
        hand.codec.send(head)
    return hand


def _ended() -> Hand:
    hand = half_closed()
    hand.say(b"\xff" * 20)
    return hand


SCENES: dict[str, Callable[[], Hand]] = {
    "untouched": _untouched,
    "half a preface": _half_a_preface,
    "unacknowledged": _unacknowledged,
    "idle server": serving,
    "idle client": lambda: asked(()),
    "busy": _busy,
    "past": _past,
    "within a frame": _within_a_frame,
    "within a block": _within_a_block,
    "draining": _draining,
    "leaving": _leaving,
    "crowded": _crowded,
    "ended": _ended,
}


def codec_in(scene: str) -> ServerCodec | ClientCodec:
    """Return a codec in this state."""
    return SCENES[scene]().codec
