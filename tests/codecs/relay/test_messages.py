"""The serving end of a link of whole messages."""

from __future__ import annotations

import pytest

from xproxy.codecs.api import SupportsPreparing, supports
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.relay.codec import opened
from xproxy.codecs.relay.messages import MessageRelay, message_relay
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, GoAway, Head, Reset
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.fakes import LINES

OK = ResponseHead(status=Status.OK, native_status=0)
ASK = RequestHead(service="s", method="m")


def asked(*ids: int) -> tuple[MessageRelay, bytes]:
    """Return the serving end for Bolt's requests, and what a codec that saw it all would answer to each."""
    request = b"".join(
        BOLT.open(Role.CLIENT, DEFAULT_LIMITS).send(Head(id_, ASK, b"", True)) for id_ in ids
    )
    writer, other = (BOLT.open(Role.SERVER, DEFAULT_LIMITS) for _ in range(2))
    link = opened(Role.SERVER, DEFAULT_LIMITS, whole=True)
    for codec in (writer, other):
        codec.receive(request)
    for id_ in ids:
        link.begin(id_, complete=True, begun=False)
    return message_relay(link, writer), b"".join(
        other.send(Head(i, OK, b"body", True)) for i in ids
    )


def received(wire: bytes, *ids: int) -> list[object]:
    client = opened(Role.CLIENT, DEFAULT_LIMITS, whole=True)
    for id_ in ids:
        client.begin(id_, complete=True, begun=False)
    return list(client.receive(wire))


def test_an_answer_crosses_as_the_client_will_read_it() -> None:
    relay, raw = asked(5)
    wire = relay.send(Head(5, OK, b"body", True))
    assert received(wire, 5) == [Data(5, raw), Data(5, b"", True)]
    assert relay.send(Head(5, OK, b"again", True)) == b""


def test_a_reset_is_an_answer() -> None:
    relay, _ = asked(5)
    got = received(relay.send(Reset(5, Status.UNAVAILABLE)), 5)
    assert isinstance(got[0], Data)
    assert got[0].data


def test_goodbyes_are_those_of_a_link() -> None:
    relay, _ = asked(5)
    assert received(relay.goaway(), 5) == [GoAway()]
    assert relay.bye()
    assert relay.receive(b"") == []


def test_pieces_are_our_own_mistake() -> None:
    relay, _ = asked(5)
    with pytest.raises(LocalProtocolError, match="cannot say Data"):
        relay.send(Data(5, b"x"))


def test_who_cannot_write_for_others_is_refused() -> None:
    link = opened(Role.SERVER, DEFAULT_LIMITS, whole=True)
    with pytest.raises(ValueError, match="cannot write answers"):
        message_relay(link, LINES.open(Role.SERVER, DEFAULT_LIMITS))


def test_long_work_is_done_in_slices_where_it_was() -> None:
    link = opened(Role.SERVER, DEFAULT_LIMITS, whole=True)
    thrift = message_relay(link, THRIFT.open(Role.SERVER, DEFAULT_LIMITS))
    assert supports(thrift, SupportsPreparing)
    assert thrift.prepare(Head(1, OK, bytes(10_000), True)) is None
    assert not supports(asked(5)[0], SupportsPreparing)
