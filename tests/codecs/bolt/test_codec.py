"""One Bolt connection: both ends may call, heartbeats stay with it, goaway goes only to who knows it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xproxy.codecs.api import SupportsGoAway, SupportsHeartbeat, SupportsSnapshot
from xproxy.codecs.bolt.codec import BoltCodec
from xproxy.codecs.bolt.plugin import EXAMPLES, PLUGIN
from xproxy.model.frames import Frame, GoAway, Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

REQUEST = RequestHead(service="com.example.Hello", method="say", deadline=3.0)
OK = ResponseHead(status=Status.OK)


@pytest.fixture
def server() -> BoltCodec:
    return BoltCodec(Role.SERVER, DEFAULT_LIMITS)


@pytest.fixture
def client() -> BoltCodec:
    return BoltCodec(Role.CLIENT, DEFAULT_LIMITS)


def only(frames: Sequence[Frame]) -> Head:
    (frame,) = frames
    assert isinstance(frame, Head)
    return frame


def test_a_server_calls_its_client_on_the_clients_connection(
    server: BoltCodec, client: BoltCodec
) -> None:
    asked = only(client.receive(server.send(Head(1, REQUEST, b"?", end=True))))
    assert isinstance(asked.message, RequestHead)
    own = client.send(Head(1, REQUEST, b"mine", end=True))  # ids of both directions may be equal
    answered = only(server.receive(client.send(Head(1, OK, b"!", end=True))))
    assert (answered.stream_id, answered.data) == (1, b"!")
    assert only(server.receive(own)).data == b"mine"


def test_a_heartbeat_is_answered_by_the_codec(server: BoltCodec, client: BoltCodec) -> None:
    (reply,) = server.receive(client.heartbeat())
    assert isinstance(reply, Reply)
    assert list(client.receive(reply.data)) == []


def test_heartbeats_are_in_the_version_last_heard(server: BoltCodec) -> None:
    assert server.heartbeat()[0] == 1
    server.receive(EXAMPLES[1])
    assert server.heartbeat()[0] == 2


def test_goaway_goes_only_to_a_peer_that_was_heard_using_it(server: BoltCodec) -> None:
    assert server.goaway() == b""
    goaway = bytes.fromhex("01 01 0064 01 00000000 01 00000000 0000 0000 00000000")
    assert list(server.receive(goaway)) == [GoAway()]
    assert server.goaway() == goaway


def test_unknown_answers_are_given_and_oneway_ones_not_sent(
    server: BoltCodec, client: BoltCodec
) -> None:
    raw = bytes.fromhex("01 00 0002 01 00000063 01 0000 0000 0000 00000000")
    assert only(client.receive(raw)).stream_id == 99
    oneway = RequestHead(service="s", method="m", oneway=True)
    server.receive(client.send(Head(4, oneway, b"", end=True)))
    assert server.send(Head(4, OK, b"", end=True)) == b""


def test_too_many_requests_are_answered_with_busy(client: BoltCodec) -> None:
    server = BoltCodec(Role.SERVER, Limits(max_streams=1))
    first, second = server.receive(
        client.send(Head(1, REQUEST, b"", end=True)) + client.send(Head(2, REQUEST, b"", end=True))
    )
    assert isinstance(first, Head)
    assert isinstance(second, Reply)
    busy = only(client.receive(second.data))
    assert isinstance(busy.message, ResponseHead)
    assert (busy.stream_id, busy.message.native_status, server.refused) == (2, 4, 1)
    server.send(Head(1, OK, b"", end=True))
    assert only(server.receive(client.send(Head(3, REQUEST, b"", end=True)))).stream_id == 3


def test_what_it_supports() -> None:
    for role in Role:
        codec = PLUGIN.open(role, DEFAULT_LIMITS)
        assert isinstance(codec, SupportsHeartbeat)
        assert isinstance(codec, SupportsGoAway)
        assert isinstance(codec, SupportsSnapshot)
