"""An attempt ends once, whatever comes in whatever order; who observes sees each, with its times."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.abc import ReceiveChannel
from trio.testing import MockClock

from tests.attempts import attempts_of
from tests.connection.kit import request_of
from xproxy.codecs.other_protocol import HERE
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed, RequestBroken, StreamError, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.ending import ANSWERED, GIVEN_UP, Answered, AttemptEnding, Broke, GivenUp
from xproxy.upstream.attempt import Attempt
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.outcome import OutcomeBody, end_unseen

OK = ResponseHead(status=Status.OK)


class Lease:
    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class Pieces(ReceiveChannel[bytes | Trailers]):
    """Gives pieces, raises errors, and waits for ever behind them where there is no end."""

    def __init__(self, *pieces: bytes | Trailers | StreamError, endless: bool = False) -> None:
        self.pieces = list(pieces)
        self.endless = endless
        self.failure: StreamError | None = None

    async def receive(self) -> bytes | Trailers:
        if not self.pieces:
            if self.endless:
                await trio.sleep_forever()
            raise trio.EndOfChannel
        piece = self.pieces.pop(0)
        if isinstance(piece, StreamError):
            self.failure = piece
            raise piece
        return piece

    async def aclose(self) -> None:
        """Hold nothing."""


def begin(*seen: list[Attempt], previous: Attempt | None = None) -> Attempt:
    """Begin an attempt that the lists observe."""
    of = attempts_of(*(each.append for each in seen))
    of.now = trio.current_time
    return Attempt(of, Endpoint(Address("192.0.2.9", 1)), previous)


ENDINGS: list[tuple[AttemptEnding, bool]] = [
    (ANSWERED[Status.OK], False),
    (ANSWERED[Status.UNAVAILABLE], True),
    (Broke(UpstreamReset("x")), True),
    (GIVEN_UP, True),
    (GivenUp(RequestBroken("x")), False),
]


@pytest.mark.parametrize(("how", "failed"), ENDINGS)
async def test_the_first_ending_counts(how: AttemptEnding, failed: bool) -> None:
    seen: list[Attempt] = []
    again: list[Attempt] = []
    attempt = begin(seen, again)
    assert (attempt.how, attempt.ended, attempt.failed) == (None, None, False)
    attempt.end(how)
    for other, _ in ENDINGS:
        attempt.end(other)
    attempt.fail(ConnectFailed("late"))
    await attempt.aclose()
    assert attempt.how is how
    assert attempt.failed is failed
    assert seen == again == [attempt]


async def test_an_answer_that_came_whole_came_when_it_ended(autojump_clock: MockClock) -> None:
    attempt = begin()
    await trio.sleep(2)
    under_way = attempt.answered
    attempt.end(ANSWERED[Status.OK])
    assert under_way is None
    assert attempt.answered == attempt.ended == attempt.began + 2
    assert attempt.status is Status.OK


async def test_one_in_pieces_has_three_times(autojump_clock: MockClock) -> None:
    attempt, lease = begin(), Lease()
    await trio.sleep(1)
    attempt.goes_on(lease, partial(attempt.end, ANSWERED[Status.OK]))
    await trio.sleep(2)
    await attempt.aclose()
    await attempt.aclose()
    assert (attempt.answered, attempt.ended) == (attempt.began + 1, attempt.began + 3)
    assert lease.closed == 1


async def test_who_is_cancelled_has_given_up() -> None:
    attempt = begin()
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep(1)
        except trio.Cancelled as cancelled:
            attempt.fail(cancelled)
            raise
    assert attempt.how is GIVEN_UP
    assert (attempt.answered, attempt.status) == (None, None)


async def test_an_error_is_kept_as_it_says_and_without_its_frames() -> None:
    attempt = begin()
    error = UpstreamReset(f"a client of {HERE}")
    try:
        raise error
    except UpstreamReset as caught:
        attempt.fail(caught)
    assert isinstance(attempt.how, Broke)
    assert attempt.how.error.detail == error.detail == "a client of cluster reviews-v1"
    assert attempt.how.error.__traceback__ is None


async def test_what_says_nothing_of_the_endpoint_gave_it_up() -> None:
    attempt = begin()
    attempt.fail(RequestBroken("the client's body"))
    assert isinstance(attempt.how, GivenUp)
    assert isinstance(attempt.how.why, RequestBroken)
    assert not attempt.failed


async def test_a_request_knows_its_attempts_in_order() -> None:
    record = request_of().record
    assert list(record.attempts) == record.tried == []
    assert record.permits is None
    first = begin()
    record.attempt = first
    assert list(record.attempts) == [first]
    first.end(Broke(ConnectFailed("x")))
    record.attempt = second = begin(previous=first)
    second.end(ANSWERED[Status.OK])
    record.attempt = third = begin(previous=second)
    assert list(record.attempts) == [first, second, third]
    assert record.tried == [first.endpoint]
    assert record.permits is third.permits


def test_times_are_the_clocks_whichever_it_is() -> None:
    class Slow(trio.abc.Clock):
        """A clock of its own."""

        def start_clock(self) -> None:
            """Run always."""

        def current_time(self) -> float:
            return 7.0

        def deadline_to_sleep_time(self, deadline: float) -> float:
            return 0.0

    async def main(*, exact: bool) -> None:
        of = attempts_of()
        of.now = trio.current_time
        of.bind(trio.lowlevel.current_clock())
        before = trio.current_time()
        attempt = Attempt(of, Endpoint(Address("192.0.2.9", 1)), None)
        if exact:
            assert attempt.began == 7.0
        else:
            assert before <= attempt.began <= trio.current_time()

    trio.run(partial(main, exact=False))
    trio.run(partial(main, exact=True), clock=Slow())


# ---- whatever comes, in whatever order

PIECES = st.lists(st.just(b"x"), max_size=2)
LAST = st.sampled_from(
    [
        None,
        Trailers(1, NO_HEADERS),
        Trailers(1, NO_HEADERS, Status.NOT_FOUND),
        UpstreamReset("x"),
        RequestBroken("x"),
    ]
)
BEFORE = st.sampled_from(["answer", "fail", "cancel", "whole"])
EVENTS = st.lists(st.sampled_from(["read", "cancel", "close", "close body"]), max_size=6)


@given(
    before=BEFORE,
    pieces=PIECES,
    last=LAST,
    events=EVENTS,
    call=st.booleans(),
    opaque=st.booleans(),
    endless=st.booleans(),
)
def test_an_attempt_ends_exactly_once(
    *,
    before: str,
    pieces: list[bytes],
    last: Trailers | StreamError | None,
    events: list[str],
    call: bool,
    opaque: bool,
    endless: bool,
) -> None:
    async def read(body: ReceiveChannel[bytes | Trailers]) -> None:
        with trio.move_on_after(1):
            await body.receive()

    async def main() -> None:
        seen: list[Attempt] = []
        attempt, lease = begin(seen), Lease()
        if before == "fail":
            attempt.fail(ConnectFailed("x"))
        elif before == "cancel":
            attempt.fail(trio.BrokenResourceError())
        elif before == "whole":
            attempt.end(ANSWERED[Status.OK])
            attempt.hold(lease)
        else:
            inner = Pieces(*pieces, *([] if last is None else [last]), endless=endless)
            body: ReceiveChannel[bytes | Trailers] = inner
            if call:
                body = outcome = OutcomeBody(inner, attempt, OK, opaque=opaque)
                attempt.goes_on(lease, outcome.give_up)
            else:
                attempt.goes_on(lease, partial(end_unseen, attempt, inner, OK, opaque=opaque))
            for event in events:
                try:
                    match event:
                        case "read":
                            await read(body)
                        case "cancel":
                            with trio.CancelScope() as scope:
                                scope.cancel()
                                await read(body)
                        case "close":
                            await attempt.aclose()
                        case _:
                            await body.aclose()
                except (trio.EndOfChannel, trio.ClosedResourceError, StreamError):
                    pass
        await attempt.aclose()
        assert seen == [attempt]
        assert lease.closed == (before in ("whole", "answer"))
        assert isinstance(attempt.how, Answered | Broke | GivenUp)
        assert attempt.ended is not None
        assert attempt.began <= (attempt.answered or attempt.began) <= attempt.ended
        assert (attempt.status is None) is (before in ("fail", "cancel"))

    trio.run(main, clock=MockClock(autojump_threshold=0))
