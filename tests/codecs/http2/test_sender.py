"""What both roles send alike: trailers, and nothing before there is a stream."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import (
    RESPONSE,
    asked,
    parse,
    server,
    serving,
)
from xproxy.codecs.http2.wire import HEADERS
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head, Trailers
from xproxy.model.headers import Headers


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
