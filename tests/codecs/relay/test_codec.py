"""Both ends of a link: windows, ends, what is swallowed, and what is received again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.relay.codec import WINDOW, Bye, Consumed, RelayCodec, opened, restored
from xproxy.codecs.relay.wire import MAX_DATA, Kind, pack
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

OK = ResponseHead(status=Status.OK, native_status=200)
FIELDS = Headers((("x-t", "1"),))


def ends(*streams: int, complete: bool = False, whole: bool = False) -> list[RelayCodec]:
    """Return the server's and the client's end of a link with streams that began before, as the link is made."""
    codecs = [opened(role, DEFAULT_LIMITS, whole=whole) for role in (Role.SERVER, Role.CLIENT)]
    for codec in codecs:
        for stream_id in streams:
            codec.begin(stream_id, complete=complete, begun=False)
    return codecs


def opened_ends(*streams: int, complete: bool = False) -> list[RelayCodec]:
    """Return them as they are once the client's connection has been taken."""
    found = ends(*streams, complete=complete)
    for codec in found:
        codec.open()
    return found


def test_the_window_is_shut_until_both_sides_open_it_and_then_needs_no_word() -> None:
    server, client = ends(1)
    assert server.sendable(1) == 0
    client.receive(server.send(Head(1, OK)))
    with pytest.raises(LocalProtocolError, match="the window lets 0 through"):
        server.send(Data(1, b"x"))
    server.open()
    client.open()
    assert server.sendable(1) == WINDOW
    assert client.receive(server.send(Data(1, bytes(WINDOW)))) == [Data(1, bytes(WINDOW))]
    assert server.sendable(1) == 0
    assert server.receive(client.consumed(1, 100)) == [Credit(1)]
    assert server.sendable(1) == 100


def test_more_than_the_window_is_a_violation() -> None:
    server, client = ends(1)
    client.receive(server.send(Head(1, OK)))
    client.open()
    piece = pack(Kind.DATA, 1, bytes(MAX_DATA))
    assert client.receive(piece) == [Data(1, bytes(MAX_DATA))]
    (violation,) = client.receive(pack(Kind.DATA, 1, b"x"))
    assert isinstance(violation, Violation)
    assert "beyond the window" in violation.detail
    assert client.receive(piece) == ()


def test_a_whole_answer_is_one_frame_with_its_body() -> None:
    server, client = opened_ends(1, complete=True)
    sent = server.send(Head(1, OK, b"body", True))
    assert client.receive(sent[:-1]) == []
    assert client.receive(sent[-1:]) == [Head(1, OK, b"body", True)]
    assert not client.hears(1)
    assert not server.speaks(1)


def test_the_ends_are_said_as_they_were_said() -> None:
    server, client = opened_ends(1, 3, complete=True)
    said = b"".join(
        server.send(frame)
        for frame in (
            Head(1, OK, interim=True),
            Head(1, OK),
            Data(1, b"a"),
            Data(1, b"", True),
            Head(3, OK),
            Trailers(3, FIELDS, Status.ABORTED),
        )
    )
    assert client.receive(said) == [
        Head(1, OK, interim=True),
        Head(1, OK),
        Data(1, b"a"),
        Data(1, b"", True),
        Head(3, OK),
        Trailers(3, FIELDS, Status.ABORTED),
    ]


def test_what_the_client_sends_needs_no_credit_and_what_was_taken_is_told() -> None:
    server, client = ends(1)
    assert client.sendable(1) > 2**31
    data = bytes(3 * MAX_DATA)
    got = server.receive(client.send(Data(1, data)))
    assert b"".join(frame.data for frame in got if isinstance(frame, Data)) == data
    assert client.receive(server.consumed(1, 1000)) == [Consumed(1, 1000)]
    server.receive(client.send(Trailers(1, FIELDS)))
    # Also once the stream is over: a body may be taken after its answer has gone.
    server.open()
    client.open()
    client.receive(server.send(Head(1, OK, b"", True)))
    assert client.receive(server.consumed(1, 5)) == [Consumed(1, 5)]
    assert server.consumed(1, 0) == b""


def test_what_is_said_on_a_stream_that_is_over_is_swallowed() -> None:
    server, client = ends(1)
    assert server.receive(client.send(Reset(1, Status.CANCELLED))) == [Reset(1, Status.CANCELLED)]
    for frame in (Head(1, OK), Data(1, b"x", True), Trailers(1, FIELDS), Reset(1, Status.OK)):
        assert server.send(frame) == b""
    assert client.receive(pack(Kind.END, 1)) == []
    assert client.send(Data(1, b"late")) == b""


def test_a_second_head_is_our_own_mistake() -> None:
    server, _ = ends(1)
    server.send(Head(1, OK))
    with pytest.raises(LocalProtocolError, match="second head"):
        server.send(Head(1, OK))


def test_goodbyes_come_from_the_server_only() -> None:
    server, client = ends(1)
    assert client.receive(server.goaway()) == [GoAway()]
    assert client.goaway() == client.bye() == b""
    assert client.receive(server.bye()) == [Bye()]
    assert server.bye() == b""
    assert client.over
    assert server.over
    (violation,) = client.receive(pack(Kind.GOAWAY, 0))
    assert isinstance(violation, Violation)


@pytest.mark.parametrize("kind", [Kind.GOAWAY, Kind.BYE, Kind.CONSUMED, Kind.MESSAGE])
def test_what_only_a_server_says_is_a_violation_of_the_other_one(kind: Kind) -> None:
    server, _ = ends(1)
    (violation,) = server.receive(pack(kind, 1))
    assert isinstance(violation, Violation)
    assert "wrong side" in violation.detail


def test_whole_messages_have_no_windows_and_no_heads() -> None:
    server, client = ends(7, whole=True, complete=True)
    raw = bytes(range(256)) * 1000
    got = client.receive(server.send(Data(7, raw, True)))
    assert b"".join(frame.data for frame in got if isinstance(frame, Data)) == raw
    assert [frame for frame in got if isinstance(frame, Data) and frame.end] == [got[-1]]
    with pytest.raises(LocalProtocolError, match="no head"):
        server.send(Head(7, OK))
    (violation,) = ends(7)[1].receive(pack(Kind.MESSAGE, 7, b"x"))
    assert isinstance(violation, Violation)


def test_a_request_goes_over_a_link_too() -> None:
    server, client = ends()
    ask = RequestHead(service="s", method="m")
    got = server.receive(client.send(Head(9, ask, b"body", True)))
    assert got[:1] == [Head(9, ask, b"body", True)]
    assert server.sendable(9) == WINDOW


PIECES = st.lists(
    st.tuples(st.sampled_from([1, 3]), st.binary(min_size=1, max_size=300)), max_size=10
)


@given(PIECES, st.integers(0, 10), st.booleans(), st.integers(0, 10**6))
def test_what_was_received_and_not_passed_on_is_received_again(
    pieces: list[tuple[int, bytes]], passed: int, ended: bool, cut: int
) -> None:
    server, client = opened_ends(1, 3, complete=True)
    frames: list[Frame] = [Head(1, OK, interim=True), Head(1, OK), Head(3, OK)]
    frames += [Data(stream_id, data) for stream_id, data in pieces]
    if ended:
        frames += [
            Data(1, b"", True),
            Trailers(3, FIELDS),
        ]
    wire = b"".join(server.send(frame) for frame in frames)
    cut %= len(wire) + 1
    got = list(client.receive(wire[:cut]))
    done, waiting = got[:passed], got[passed:]
    for frame in done:
        if isinstance(frame, Data) and frame.data:
            server.receive(client.consumed(frame.stream_id, len(frame.data)))
    before = client.snapshot()
    moved = restored(client.snapshot_before(waiting), Role.CLIENT, DEFAULT_LIMITS)
    assert client.snapshot() == before
    again = list(moved.receive(b"")) + list(moved.receive(wire[cut:]))
    assert said(done + again) == said(frames)
    # And each has the window that it had at first, once all has been taken.
    for stream_id in (1, 3):
        for frame in again:
            if isinstance(frame, Data) and frame.data and frame.stream_id == stream_id:
                server.receive(moved.consumed(stream_id, len(frame.data)))
        if not ended:
            assert server.sendable(stream_id) == WINDOW


def said(frames: Sequence[Frame]) -> dict[int, list[object]]:
    """Return what was said on each stream, however its bytes were cut."""
    told: dict[int, list[object]] = {1: [], 3: []}
    for frame in frames:
        assert isinstance(frame, Head | Data | Trailers)
        on = told[frame.stream_id]
        if isinstance(frame, Data) and not frame.end:
            if on and isinstance(on[-1], bytes):
                on[-1] += frame.data
            else:
                on.append(frame.data)
        else:
            on.append(frame)
    return told


def test_a_stream_that_was_reset_is_reset_again() -> None:
    server, client = ends(1)
    got = client.receive(server.send(Reset(1, Status.INTERNAL)))
    moved = restored(client.snapshot_before(got), Role.CLIENT, DEFAULT_LIMITS)
    assert moved.receive(b"") == got
