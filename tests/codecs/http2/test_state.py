"""Every state of a stream and every event has an answer, and both roles give it on the wire."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.codecs.http2.driving import (
    GET,
    OK,
    REQUEST,
    RESPONSE,
    Hand,
    answered,
    asked,
    closed,
    crime,
    data,
    half_closed,
    opened,
    resets,
    serving,
    uploading,
    waiting,
)
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.state import TRANSITIONS, Event, Refusal, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import rst_stream, window_update
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reset
from xproxy.model.status import Status

ARRIVING = (
    Event.HEADERS_ARRIVE,
    Event.DATA_ARRIVE,
    Event.END_ARRIVES,
    Event.RESET_ARRIVES,
    Event.CREDIT_ARRIVES,
)
LEAVING = (Event.HEADERS_LEAVE, Event.DATA_LEAVE, Event.END_LEAVES, Event.RESET_LEAVES)
NOT_BEGUN = (State.IDLE, State.UNUSED)
LIVE = (State.OPEN, State.HALF_CLOSED_LOCAL, State.HALF_CLOSED_REMOTE)


def test_the_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


def test_only_an_idle_stream_opens_and_none_comes_back() -> None:
    """RFC 9113 §5.1."""
    order = (State.IDLE, State.OPEN, State.HALF_CLOSED_LOCAL, State.CLOSED)
    for (state, event), outcome in TRANSITIONS.items():
        if isinstance(outcome, State) and state is State.IDLE:
            assert outcome is State.OPEN
            assert event in (Event.HEADERS_ARRIVE, Event.HEADERS_LEAVE)
        elif isinstance(outcome, State):
            assert state in LIVE
            if outcome in order and state in order:
                assert order.index(outcome) >= order.index(state)
        if state in (State.CLOSED, State.ABANDONED, State.UNUSED):
            assert isinstance(outcome, Refusal)


@pytest.mark.parametrize("event", Event)
def test_verdicts_follow_the_rfc(event: Event) -> None:
    """RFC 9113 §5.1: what it says of frames that a state does not allow."""
    assert TRANSITIONS[State.ABANDONED, event] is Refusal.IGNORED
    message = event in (Event.HEADERS_ARRIVE, Event.DATA_ARRIVE, Event.END_ARRIVES)
    if message:
        assert TRANSITIONS[State.HALF_CLOSED_REMOTE, event] is Refusal.STREAM_CLOSED
        assert TRANSITIONS[State.CLOSED, event] is Refusal.GONE
    if event in ARRIVING:
        assert TRANSITIONS[State.UNUSED, event] is Refusal.NOT_OPENED
        if event is not Event.HEADERS_ARRIVE:
            assert TRANSITIONS[State.IDLE, event] is Refusal.NOT_OPENED
    if event in (Event.RESET_ARRIVES, Event.CREDIT_ARRIVES):
        assert TRANSITIONS[State.CLOSED, event] is Refusal.IGNORED
        for state in LIVE:
            after = State.CLOSED if event is Event.RESET_ARRIVES else state
            assert TRANSITIONS[state, event] is after
    if event in LEAVING[:3]:
        assert TRANSITIONS[State.HALF_CLOSED_LOCAL, event] is Refusal.OURS


def test_a_stream_ends_as_often_as_it_has_directions() -> None:
    assert State.OPEN.received is State.HALF_CLOSED_REMOTE
    assert State.OPEN.sent is State.HALF_CLOSED_LOCAL
    assert State.HALF_CLOSED_REMOTE.sent is State.HALF_CLOSED_LOCAL.received is State.CLOSED
    assert [state for state in State if state.receiving] == [State.OPEN, State.HALF_CLOSED_LOCAL]
    assert [state for state in State if state.sending] == [State.OPEN, State.HALF_CLOSED_REMOTE]


def abandoned() -> Hand:
    hand = opened()
    hand.codec.send(Reset(1, Status.CANCELLED))
    return hand


def given_up() -> Hand:
    hand = uploading()
    hand.codec.send(Reset(1, Status.CANCELLED))
    return hand


def faulty() -> Hand:
    hand = half_closed()
    hand.say(data(1, b"more"))
    return hand


def passed_over() -> Hand:
    hand = serving()
    hand.ask(3)
    return hand


def half_answered() -> Hand:
    hand = opened()
    hand.codec.send(Head(1, RESPONSE, b"", end=True))
    return hand


def refusing() -> Hand:
    hand = uploading()
    hand.ask(1, OK)
    return hand


BEGUN: list[tuple[State, Callable[[], Hand]]] = [
    (State.IDLE, serving),
    (State.UNUSED, passed_over),
    (State.UNUSED, lambda: asked(())),
    (State.OPEN, opened),
    (State.OPEN, uploading),
    (State.HALF_CLOSED_LOCAL, half_answered),
    (State.HALF_CLOSED_LOCAL, waiting),
    (State.HALF_CLOSED_REMOTE, half_closed),
    (State.HALF_CLOSED_REMOTE, refusing),
    (State.ABANDONED, abandoned),
    (State.ABANDONED, given_up),
    (State.ABANDONED, faulty),
    (State.CLOSED, closed),
    (State.CLOSED, answered),
]
"""A state of stream 1, and who has got there."""


def wire(hand: Hand, event: Event) -> bytes:
    if event is Event.RESET_ARRIVES:
        return rst_stream(1, 8)
    if event is Event.CREDIT_ARRIVES:
        return window_update(1, 1)
    server = isinstance(hand.codec, ServerCodec)
    trailers = server and hand.codec.sendable(1)
    head = hand.head(1, (("x-t", "1"),) if trailers else GET if server else OK)
    if event is Event.HEADERS_ARRIVE:
        return head
    if server or hand.codec.sendable(1) == 0:
        return data(1, b"x", end=event is Event.END_ARRIVES)
    return head[:4] + b"\x04" + head[5:] + data(1, b"x", end=event is Event.END_ARRIVES)


@pytest.mark.parametrize("event", ARRIVING)
@pytest.mark.parametrize(("state", "begin"), BEGUN)
def test_what_arrives_is_met_as_the_table_says(
    state: State, begin: Callable[[], Hand], event: Event
) -> None:
    hand = begin()
    outcome = TRANSITIONS[state, event]
    frames = hand.say(wire(hand, event))
    codes = {
        Refusal.NOT_OPENED: ErrorCode.PROTOCOL_ERROR,
        Refusal.GONE: ErrorCode.STREAM_CLOSED,
    }
    assert crime(frames) == (codes.get(outcome) if isinstance(outcome, Refusal) else None)
    refused = {1: ErrorCode.STREAM_CLOSED} if outcome is Refusal.STREAM_CLOSED else {}
    assert resets(frames) == refused
    if isinstance(outcome, Refusal):
        assert not [f for f in frames if isinstance(f, Head | Data)]


OURS = [(State.IDLE, lambda: asked(())), *[(s, b) for s, b in BEGUN if s not in NOT_BEGUN]]
"""The same, as it is to who sends. Towards a server only a new stream takes a head."""


@pytest.mark.parametrize("event", LEAVING)
@pytest.mark.parametrize(("state", "begin"), OURS)
def test_what_leaves_is_met_as_the_table_says(
    state: State, begin: Callable[[], Hand], event: Event
) -> None:
    codec = begin().codec
    serves = isinstance(codec, ServerCodec)
    outcome = TRANSITIONS[state, event]
    frame: Frame = Head(1, RESPONSE if serves else REQUEST)
    if event is Event.HEADERS_LEAVE and not (serves or state is State.IDLE):
        outcome = Refusal.OURS
    elif event is Event.RESET_LEAVES:
        frame = Reset(1, Status.CANCELLED)
    elif event is not Event.HEADERS_LEAVE:
        if serves and state.sending:
            codec.send(frame)
        frame = Data(1, b"x", event is Event.END_LEAVES)
    if outcome is Refusal.OURS:
        with pytest.raises(LocalProtocolError):
            codec.send(frame)
    else:
        assert (codec.send(frame) == b"") is (outcome is Refusal.IGNORED)
