"""Header lists of messages. What a connection does with them is in test_server.py and test_client.py."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.http2.driving import REQUEST, RESPONSE
from xproxy.codecs.http2.outgoing import (
    added_fields,
    of_request,
    of_response,
    of_trailers,
    text_type,
)
from xproxy.codecs.http2.table import Secret, Table
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status


def test_pseudo_fields_come_first() -> None:
    """RFC 9113 §8.3."""
    names = [name for name, _ in of_request(REQUEST).fields]
    assert names == [":method", ":scheme", ":path", ":authority", "x-sample"]
    assert of_response(RESPONSE).fields[0] == (":status", "200")


def test_names_are_in_lower_case() -> None:
    """RFC 9113 §8.2."""
    message = attrs.evolve(REQUEST, headers=Headers((("X-Mixed", "Value"),)))
    assert of_request(message).fields[-1] == ("x-mixed", "Value")


def test_blanks_around_values_are_cut_off() -> None:
    """RFC 9113 §8.2.1."""
    message = attrs.evolve(REQUEST, headers=Headers((("x", " a\t"),)))
    assert of_request(message).fields[-1] == ("x", "a")


def test_a_secret_stays_one() -> None:
    message = attrs.evolve(REQUEST, headers=Headers((("x", Secret("pin")),)))
    assert type(of_request(message).fields[-1][1]) is Secret


def test_lengths() -> None:
    one = Headers((("Content-Length", "5"),))
    assert of_response(attrs.evolve(RESPONSE, headers=one)).declared == 5
    assert of_response(RESPONSE).declared == -1
    twice = attrs.evolve(RESPONSE, headers=one.add("content-length", "5"))
    assert [n for n, _ in of_response(twice).fields].count("content-length") == 1
    with pytest.raises(LocalProtocolError):
        of_response(attrs.evolve(RESPONSE, headers=one.add("content-length", "6")))
    changed = of_response(attrs.evolve(RESPONSE, headers=one)).with_length(7)
    assert changed.fields[-1] == ("content-length", "7")
    assert changed.code == 200
    assert changed.without_length().fields == [(":status", "200")]


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_local_replies_have_a_text(status: Status) -> None:
    outgoing = of_response(ResponseHead(status=status, extra=Local(detail="why")))
    assert outgoing.local_body == b"why\n"
    assert outgoing.code >= 400
    told = text_type(outgoing)
    assert ("content-length", "4") in told.fields
    assert told.declared == 4


def test_trailers_bring_nothing_that_must_stand_before() -> None:
    """RFC 9110 §6.5.1."""
    assert of_trailers(Headers((("X", "1"), ("Host", "a"), ("Set-Cookie", "b")))) == [("x", "1")]
    with pytest.raises(LocalProtocolError):
        of_trailers(Headers(((":path", "/"),)))


def test_only_plain_fields_can_be_added_behind() -> None:
    assert added_fields((("X-A", "b"),)) == [("x-a", "b")]
    for name in ("content-length", "te", "connection", "host"):
        assert added_fields(((name, "1"),)) is None


def test_what_it_becomes_is_remembered_for_each_table() -> None:
    outgoing = of_response(RESPONSE)
    table = Table((), 4096)
    outgoing.remember(table, b"\x88", table)
    assert outgoing.blocks[table] == (b"\x88", table)
