"""L4: the head once, the bytes untouched, and the end of both directions."""

from __future__ import annotations

import pytest

from xproxy.codecs.opaque.codec import OpaqueCodec
from xproxy.codecs.opaque.state import State
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

REQUEST = RequestHead(service="", method="")
OK = ResponseHead(status=Status.OK, native_status=0)


def server() -> OpaqueCodec:
    return OpaqueCodec(Role.SERVER, State())


def client() -> OpaqueCodec:
    return OpaqueCodec(Role.CLIENT, State())


def test_the_head_comes_with_the_first_receive_even_of_nothing() -> None:
    codec = server()
    assert list(codec.receive(b"")) == [Head(1, REQUEST)]
    assert list(codec.receive(b"")) == []
    assert list(client().receive(b"x")) == [Head(1, OK), Data(1, b"x")]


def test_a_piece_is_the_very_bytes_read() -> None:
    codec, piece = server(), bytes(1000)
    codec.receive(b"")
    (frame,) = codec.receive(piece)
    assert isinstance(frame, Data)
    assert frame.data is piece
    assert codec.send(frame) is piece


def test_halves_end_on_their_own_and_goaway_follows_both() -> None:
    codec = server()
    assert list(codec.receive(None)) == [Head(1, REQUEST), Data(1, b"", end=True)]
    assert list(codec.receive(b"late")) == []
    assert codec.send(Head(1, OK, b"answer")) == b"answer"
    assert codec.send(Data(1, b"more", end=True)) == b"more"
    assert list(codec.receive(b"")) == [GoAway()]
    assert list(codec.receive(None)) == []


def test_goaway_comes_with_the_peers_end_if_ours_was_first() -> None:
    codec = client()
    assert codec.send(Head(1, REQUEST, b"all", end=True)) == b"all"
    assert list(codec.receive(None)) == [Head(1, OK), Data(1, b"", end=True), GoAway()]


def test_trailers_end_and_a_reset_ends_both() -> None:
    codec = server()
    assert codec.send(Trailers(1, NO_HEADERS)) == b""
    with pytest.raises(LocalProtocolError, match="ended"):
        codec.send(Data(1, b"x"))
    other = server()
    other.receive(b"")
    assert other.send(Reset(1, Status.CANCELLED)) == b""
    assert list(other.receive(b"x")) == [GoAway()]


def test_a_local_error_reply_has_no_bytes() -> None:
    failed = ResponseHead(status=Status.UNAVAILABLE)
    assert server().send(Head(1, failed, b"no endpoint", end=True)) == b""
    assert server().send(Head(1, ResponseHead(status=Status.OK), b"hi", end=True)) == b"hi"


@pytest.mark.parametrize(
    ("codec", "frame"),
    [(server(), Head(1, REQUEST)), (client(), Head(1, OK)), (server(), Reply(b"x"))],
)
def test_nonsense_is_our_own_mistake(codec: OpaqueCodec, frame: Frame) -> None:
    with pytest.raises(LocalProtocolError):
        codec.send(frame)
