"""``pieces`` on the wire; its conformance is in ``tests/testing/test_conformance.py``."""

from __future__ import annotations

import pytest

from xproxy.codecs.api import NO, YES, Hint
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Head, Reply, Reset, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.fakes.pieces import PIECES, PiecesCodec, PiecesPlugin

ASK = RequestHead(service="a", method="b")
OK = ResponseHead(status=Status.OK)


def both(window: int = 100, limits: Limits = DEFAULT_LIMITS) -> tuple[PiecesCodec, PiecesCodec]:
    plugin = PiecesPlugin(window=window)
    return plugin.open(Role.CLIENT, limits), plugin.open(Role.SERVER, limits)


def test_the_preface_is_recognised() -> None:
    assert PIECES.detect(b"\xf5PIECES\n", Hint()) == YES
    assert PIECES.detect(b"\xf5PIX", Hint()) == NO


def test_the_window_shuts_and_credit_opens_it() -> None:
    client, server = both(window=100)
    server.receive(client.send(Head(1, ASK)))
    server.receive(client.send(Data(1, bytes(100))))
    assert client.sendable(1) == 0
    with pytest.raises(LocalProtocolError, match="the window lets 0 through"):
        client.send(Data(1, b"x"))
    assert server.consumed(1, 10) == b""
    assert client.receive(server.consumed(1, 50)) == [Credit(1)]
    assert client.sendable(1) == 60


def test_overrunning_the_window_is_a_violation() -> None:
    _, server = both(window=100)
    client, _ = both(window=200)
    server.receive(client.send(Head(1, ASK)))
    (frame,) = server.receive(client.send(Data(1, bytes(101))))
    assert isinstance(frame, Violation)
    assert "overrun by 1" in frame.detail


def test_a_reset_ends_the_stream_and_late_frames_are_let_go() -> None:
    client, server = both()
    server.receive(client.send(Head(1, ASK)))
    late = client.send(Data(1, b"late"))
    assert client.receive(server.send(Reset(1, Status.ABORTED))) == [Reset(1, Status.ABORTED)]
    assert server.receive(late) == []
    with pytest.raises(LocalProtocolError, match="not open"):
        client.send(Data(1, b"x"))


def test_streams_above_the_limit_are_refused_one_by_one() -> None:
    client, server = both(limits=Limits(max_streams=1))
    server.receive(client.send(Head(1, ASK)))
    (refusal,) = server.receive(client.send(Head(3, ASK)))
    assert isinstance(refusal, Reply)
    assert client.receive(refusal.data) == [Reset(3, Status.RESOURCE_EXHAUSTED)]


def test_an_answer_to_nothing_is_a_violation() -> None:
    client, server = both()
    other_client, _ = both()
    server.receive(client.send(Head(1, ASK)))
    (frame,) = other_client.receive(server.send(Head(1, OK, b"", end=True)))
    assert isinstance(frame, Violation)
