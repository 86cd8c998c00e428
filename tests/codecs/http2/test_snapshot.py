"""A codec moved to another process goes on as it would have, from any state; forged states are refused."""

from __future__ import annotations

import json

import msgpack
import pytest

from tests.alive import part
from tests.codecs.http2.driving import (
    GET,
    OK,
    POST,
    RESPONSE,
    UPLOAD,
    Hand,
    asked,
    continuations,
    data,
    heads,
    parse,
    plugin_with,
    resets,
    serving,
)
from tests.codecs.http2.scenes import SCENES, STATES, codec_in
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.header_writer import HeaderWriter
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.snapshot import NAME, VERSION
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import RST_STREAM, Setting, ping, settings
from xproxy.model.frames import Data, Head, Reset
from xproxy.model.limits import DEFAULT_LIMITS, Size
from xproxy.model.status import Status
from xproxy.model.traits import Role


def move(hand: Hand, own: Http2Limits | None = None) -> None:
    """Let another process go on."""
    plugin = PLUGIN if own is None else plugin_with(own)
    moved = plugin.restore(hand.codec.snapshot(), hand.codec.role, DEFAULT_LIMITS)
    assert isinstance(moved, ServerCodec | ClientCodec)
    assert moved.snapshot() == hand.codec.snapshot()
    hand.codec = moved


def test_tables_windows_and_streams_move() -> None:
    hand = serving()
    hand.say(settings(((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.HEADER_TABLE_SIZE, 60))))
    hand.ask(1, (*POST, ("x-a", "1"), ("content-length", "9")), end=False)
    hand.say(data(1, b"1234"))
    move(hand)
    assert resets(hand.say(data(1, b"56789!"))) == {1: ErrorCode.PROTOCOL_ERROR}
    (head,) = heads(hand.ask(3, (*POST, ("x-a", "1"))))
    assert head.message.headers["x-a"] == "1"
    assert hand.codec.sendable(3) == 100
    hand.decoder.max_allowed_table_size = 60
    move(hand)
    (seen,) = parse(hand.codec.send(Head(3, RESPONSE, b"", end=True)))
    assert seen.payload[:2] == bytes((0x3F, 60 - 31))  # the size update that was owed
    assert hand.fields(seen) == [(":status", "200")]


def test_credit_that_is_owed_moves() -> None:
    own = Http2Limits(stream_window_bytes=Size(1000), connection_window_bytes=Size(65_535))
    one, other = (Hand(_server(own)) for _ in range(2))
    for hand in (one, other):
        hand.ask(1, POST, end=False)
        hand.say(data(1, bytes(600)))
        assert hand.codec.consumed(1, 300) == b""
    move(other, own)
    assert one.codec.consumed(1, 300) == other.codec.consumed(1, 300) != b""


def _server(own: Http2Limits) -> ServerCodec:
    codec = plugin_with(own).open(Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(codec, ServerCodec)
    return codec


def test_a_connection_moves_within_frames_and_blocks() -> None:
    block = continuations(
        1, Hand(_server(Http2Limits())).block((*GET, ("x", "y" * 50))), (7, 20, 3)
    )
    for cut in range(len(block) + 1):
        hand = serving()
        before = hand.say(block[:cut])
        move(hand)
        assert len(heads([*before, *hand.say(block[cut:])])) == 1


def test_a_drain_moves() -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    asked_back = parse(hand.codec.goaway())[1]
    move(hand)
    assert heads(hand.ask(3))
    hand.say(ping(asked_back.payload, ack=True))
    move(hand)
    assert resets(hand.ask(5)) == {5: ErrorCode.REFUSED_STREAM}


def test_settings_that_are_not_acknowledged_move() -> None:
    own = Http2Limits(stream_window_bytes=Size(10))
    hand = Hand(_server(own), started=False)
    move(hand, own)
    assert not hand.codec.acknowledged
    hand.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings(()))
    hand.ask(1, POST, end=False)
    assert resets(hand.say(data(1, bytes(100)))) == {}
    hand.say(settings(())[:4] + b"\x01" + settings(())[5:])
    move(hand, own)
    assert bool(hand.codec.acknowledged)
    assert resets(hand.say(data(1, b"x"))) == {1: ErrorCode.FLOW_CONTROL_ERROR}


def test_streams_that_we_reset_move() -> None:
    hand = asked((UPLOAD,))
    assert parse(hand.codec.send(Reset(1, Status.CANCELLED)))[0].kind == RST_STREAM
    move(hand)
    frames = hand.say(hand.head(1, OK, end=False), data(1, b"late"))
    assert not [f for f in frames if isinstance(f, Head | Data)]


def test_a_codec_that_has_ended_moves() -> None:
    hand = serving()
    hand.ask(1)
    hand.say(b"\xff" * 20)
    move(hand)
    assert hand.say(ping(bytes(8))) == []
    assert hand.codec.send(Head(1, RESPONSE, b"owed", end=True))


BLOCK = {"stream_id": 1, "data": b"x"}
FORGED: list[dict[str, object]] = [
    {"role": "server?"},
    {"stage": "nowhere"},
    {"drain": "maybe"},
    {"greeted": 1},
    {"inbound": -1},
    {"first_inbound": 2**31},
    {"frame_bytes": 16_383},
    {"buffer": b"a" * 100_000},
    {"buffer": "text"},
    {"block": {**BLOCK, "data": bytes(300_000)}},
    {"block": {**BLOCK, "stream_id": 0}},
    {"block": {"stream_id": 1, "more": True}},
    {"stage": "ended", "buffer": b"a"},
    {"stage": "ended", "block": BLOCK},
    {"decoder": {"maximum": 10, "entries": [["a", "b"]]}},
    {"decoder": {"entries": [["a", "\u0100"]]}},
    {"decoder": {"entries": [["a"]]}},
    {"encoder": {"maximum": 2**40}},
    {"resizes": [-1]},
    {"resizes": [1, 2, 3]},
    {"streams": {1: {}}},
    {"streams": {2: {"state": "open"}}},
    {"streams": {99: {"state": "open"}}},
    {"streams": {1: {"state": "idle"}}},
    {"streams": {1: {"state": "closed"}}},
    {"streams": [[1]]},
    {"held": {1: [0, 1]}},
    {"held": {1: [1]}},
    {"past": {"abandoned": [2]}},
    {"past": {"skipped": [[1]]}},
    {"counters": {"sheep": 1}},
    {"counters": {"streams": -1}},
    {"waiting": {}},
    {"retiring": True},
    {"sense": 1},
]


@pytest.mark.parametrize("changes", FORGED, ids=str)
def test_forged_states_are_refused(changes: dict[str, object]) -> None:
    hand = serving()
    hand.ask(1, POST, end=False)
    name, version, fields = msgpack.unpackb(hand.codec.snapshot(), strict_map_key=False)
    assert (name, version) == (NAME, VERSION)
    with pytest.raises(ValueError):
        PLUGIN.restore(
            msgpack.packb([name, version, fields | changes]), Role.SERVER, DEFAULT_LIMITS
        )


@pytest.mark.parametrize("changes", [{"stage": "magic"}, {"unheard": True}])
def test_a_clients_forged_states_are_refused(changes: dict[str, object]) -> None:
    parts = msgpack.unpackb(asked(()).codec.snapshot(), strict_map_key=False)
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb([*parts[:2], parts[2] | changes]), Role.CLIENT, DEFAULT_LIMITS)


@pytest.mark.parametrize("scene", SCENES)
def test_states_that_were_written_once_are_read(scene: str) -> None:
    """By this release, by the one whose fields had places, and by the one whose codec held requests that wait."""
    codec = codec_in(scene)
    written = json.loads(STATES.read_text())[scene]
    assert codec.snapshot().hex() == written[str(VERSION)]
    for state in written.values():
        moved = PLUGIN.restore(bytes.fromhex(state), codec.role, DEFAULT_LIMITS)
        assert isinstance(moved, ServerCodec | ClientCodec)
        assert moved.snapshot() == codec.snapshot()


def test_the_other_roles_state_is_refused() -> None:
    with pytest.raises(ValueError):
        PLUGIN.restore(serving().codec.snapshot(), Role.CLIENT, DEFAULT_LIMITS)


def test_connections_that_shared_a_table_share_one_when_they_have_moved() -> None:
    """What is remembered of blocks goes by the table: one each would be a memory each, for good."""
    hands = [serving() for _ in range(5)]
    for hand in hands:
        hand.ask(1, (*POST, ("x-a", "1")))
        hand.codec.send(Head(1, RESPONSE, b"", end=True))
    hands[4].ask(3, (*POST, ("x-a", "2")))
    for hand in hands:
        for _ in range(2):
            move(hand)
    for tables in (
        [part(hand.codec, HeaderReader).table for hand in hands],
        [part(hand.codec, HeaderWriter).table for hand in hands],
    ):
        assert len({id(table) for table in tables[:4]}) == 1
    assert part(hands[0].codec, HeaderReader).table.entries
    assert tables_of(hands[4]) != tables_of(hands[0])
    hands[0].ask(3, (*POST, ("x-a", "3")))
    assert tables_of(hands[0]) != tables_of(hands[1]), "and part where they change"


def tables_of(hand: Hand) -> int:
    return id(part(hand.codec, HeaderReader).table)
