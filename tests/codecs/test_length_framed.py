"""A declaration makes a whole codec plugin, with just what was declared."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.declared import KINDS, PLAIN, TOTAL, request
from xproxy.codecs.api import (
    NO_HINT,
    SupportsGoAway,
    SupportsHeartbeat,
    VerdictKind,
)
from xproxy.codecs.message_wire import Kind
from xproxy.model.frames import GoAway, Head, Reply
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role
from xproxy.testing import check_codec


def test_conformance() -> None:
    check_codec(PLAIN)


def test_a_protocol_has_what_it_declares() -> None:
    full, bare = PLAIN.open(Role.SERVER, DEFAULT_LIMITS), TOTAL.open(Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(full, SupportsHeartbeat)
    assert isinstance(full, SupportsGoAway)
    assert not isinstance(bare, SupportsHeartbeat)
    assert not isinstance(bare, SupportsGoAway)
    assert (PLAIN.traits.oneway, PLAIN.traits.reverse) == (True, True)
    assert (TOTAL.traits.oneway, TOTAL.traits.reverse) == (False, False)
    only_beats = attrs.evolve(TOTAL, kinds={**KINDS, 4: Kind.HEARTBEAT, 5: Kind.HEARTBEAT_ACK})
    assert isinstance(only_beats.open(Role.CLIENT, DEFAULT_LIMITS), SupportsHeartbeat)
    only_goaway = attrs.evolve(TOTAL, kinds={**KINDS, 6: Kind.GOAWAY})
    assert not isinstance(only_goaway.open(Role.CLIENT, DEFAULT_LIMITS), SupportsHeartbeat)


def test_heartbeats_and_goaway() -> None:
    server, client = (PLAIN.open(role, DEFAULT_LIMITS) for role in (Role.SERVER, Role.CLIENT))
    assert isinstance(client, SupportsHeartbeat)
    assert isinstance(server, SupportsGoAway)
    (reply,) = server.receive(client.heartbeat())
    assert isinstance(reply, Reply)
    assert list(client.receive(reply.data)) == []
    assert list(client.receive(server.goaway())) == [GoAway()]


def test_detection_by_the_magic_wherever_it_is() -> None:
    def kind(prefix: bytes) -> tuple[VerdictKind, int]:
        verdict = PLAIN.detect(prefix, NO_HINT)
        return verdict.kind, verdict.at_least

    assert kind(b"") == (VerdictKind.MORE, 2)
    assert kind(b"?") == (VerdictKind.MORE, 2)
    assert kind(b"?P") == (VerdictKind.MORE, 3)
    assert kind(b"?PL!") == (VerdictKind.MORE, 5)
    assert kind(b"?PX") == (VerdictKind.NO, 0)
    assert PLAIN.detect(b"?P", NO_HINT).faint
    assert not PLAIN.detect(b"?PL!", NO_HINT).faint
    example = PLAIN.examples[0]
    fixed = 1 + 3 + 2 + 1 + 2 + 4 + 4 + 4
    assert kind(example[: fixed - 1]) == (VerdictKind.MORE, fixed)
    assert PLAIN.detect(example[:fixed], NO_HINT).kind is VerdictKind.YES
    assert PLAIN.detect(example, NO_HINT).kind is VerdictKind.YES


@pytest.mark.parametrize(
    ("at", "byte"), [(6, 9), (6, 2), (6, 5), (13, 0xFF)], ids=["kind", "answer", "ack", "lengths"]
)
def test_what_its_head_says_is_looked_at(at: int, byte: int) -> None:
    example = bytearray(PLAIN.examples[0])
    example[at] = byte
    assert PLAIN.detect(bytes(example), NO_HINT).kind is VerdictKind.NO


words = st.text(st.characters(categories=["L", "N"]), max_size=8)


@settings(max_examples=100)
@given(
    stream_id=st.integers(-(2**31), 2**31 - 1),
    service=words,
    method=words,
    pairs=st.lists(st.tuples(words, words), max_size=3),
    oneway=st.booleans(),
    data=st.binary(max_size=40),
)
def test_requests_come_back_as_they_were_sent(
    stream_id: int,
    service: str,
    method: str,
    pairs: list[tuple[str, str]],
    oneway: bool,
    data: bytes,
) -> None:
    headers = Headers([pair for pair in pairs if pair[0] not in ("service", "method")])
    head = RequestHead(service=service, method=method, headers=headers, oneway=oneway)
    (got,) = PLAIN.open(Role.SERVER, DEFAULT_LIMITS).receive(request(PLAIN, stream_id, head, data))
    assert isinstance(got, Head)
    assert attrs.evolve(got.message, extra=None) == head
    assert (got.stream_id, got.data) == (stream_id, data)
    assert Headers() == NO_HEADERS
