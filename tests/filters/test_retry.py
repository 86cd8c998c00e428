from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.attempts import attempt_of
from xproxy.filters.headers import ChangeHeaders, HeaderChanges
from xproxy.filters.rate_limited_back_off import RateLimitedBackOff
from xproxy.filters.retry import CONDITIONS, BackOff, Retry
from xproxy.model.errors import (
    ConnectFailed,
    DeadlineExceeded,
    NoHealthyEndpoint,
    Overflow,
    StreamError,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration, Size
from xproxy.model.message import Rpc
from xproxy.model.status import Status
from xproxy.stream.body import read_whole
from xproxy.stream.ending import BodyEnding, Complete, GivenUp
from xproxy.stream.exchange import Request
from xproxy.stream.wrapped import WrappedBody

Kit = Any  # Any: conftest.py cannot be imported

FAILED = ConnectFailed("refused")


def drawn(count: int) -> list[float]:
    """Return what is drawn next."""
    random.seed(1)
    draws = [random.random() for _ in range(count)]
    random.seed(1)
    return draws


@given(
    st.integers(1, 200),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 10),
    st.floats(0, 100),
)
def test_a_wait_is_in_its_range(retry: int, draw: float, base: float, cap: float) -> None:
    wait = BackOff(base=Duration(base), cap=Duration(cap)).wait(retry, draw)
    limit = min(cap, base * 2.0 ** (retry - 1))
    assert 0 <= wait <= limit
    assert wait < limit or limit < 1e-300


def test_the_default_ranges_double_up_to_the_cap() -> None:
    upper = [BackOff().wait(retry, 1.0) for retry in range(1, 8)]
    assert upper == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.25, 0.25, 0.25])


async def test_a_failed_try_is_followed_by_another(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream(FAILED, kit.response())
    request = kit.web()
    response = await Retry()(request, upstream)
    assert response.head.native_status == 200
    assert len(upstream.seen) == 2
    assert request.record.flags == ""


async def test_waits_are_drawn_for_each_retry(kit: Kit, autojump_clock: MockClock) -> None:
    retry = Retry(attempts=4)
    expected = [BackOff().wait(number, draw) for number, draw in enumerate(drawn(4), start=1)]
    upstream = kit.upstream(FAILED)
    with pytest.raises(ConnectFailed):
        await retry(kit.web(), upstream)
    waits = [b - a for a, b in zip(upstream.times, upstream.times[1:], strict=False)]
    assert waits == pytest.approx(expected)


async def test_the_last_outcome_goes_on_when_attempts_are_used_up(
    kit: Kit, autojump_clock: MockClock
) -> None:
    request, upstream = kit.web(), kit.upstream(FAILED)
    with pytest.raises(ConnectFailed, match="refused"):
        await Retry(attempts=2)(request, upstream)
    assert len(upstream.seen) == 3
    assert request.record.flags == "URX"


async def test_discarded_responses_are_closed_and_the_last_is_not(
    kit: Kit, autojump_clock: MockClock
) -> None:
    responses = [kit.response(503, status=Status.UNAVAILABLE) for _ in range(2)]
    leases = [response.lease for response in responses]
    answer = await Retry(on=("5xx",))(kit.web(), kit.upstream(*responses))
    assert answer is responses[1]
    assert [lease.closed for lease in leases] == [1, 0]


@pytest.mark.parametrize(
    ("on", "error", "again"),
    [
        ("connect-failure", ConnectFailed, True),
        ("connect-failure", UpstreamReset, False),
        ("reset", UpstreamReset, True),
        ("reset", UpstreamProtocolError, True),
        ("reset", ConnectFailed, True),
        ("reset", NoHealthyEndpoint, False),
        ("unavailable", NoHealthyEndpoint, True),
        ("unavailable", UpstreamReset, False),
        ("deadline-exceeded", DeadlineExceeded, True),
        ("refused-stream", UpstreamReset, False),
        ("5xx", ConnectFailed, True),
        ("5xx", UpstreamReset, True),
        ("gateway-error", DeadlineExceeded, True),
        ("resource-exhausted", Overflow, False),
        ("status-resource-exhausted", Overflow, False),
        ("5xx", Overflow, False),
        ("5xx", StreamError, False),
    ],
)
async def test_which_failures_are_tried_again(
    kit: Kit, autojump_clock: MockClock, on: str, error: type[StreamError], again: bool
) -> None:
    upstream = kit.upstream(error("x"), kit.response())
    try:
        await Retry(on=(on,))(kit.web(), upstream)
    except error:
        assert not again
    assert len(upstream.seen) == 1 + again


@pytest.mark.parametrize(
    ("fields", "code", "status", "again"),
    [
        ({"on": ("5xx",)}, 500, Status.INTERNAL, True),
        ({"on": ("5xx",)}, 499, Status.CANCELLED, False),
        ({"on": ("gateway-error",)}, 500, Status.INTERNAL, False),
        ({"on": ("gateway-error",)}, 504, Status.DEADLINE_EXCEEDED, True),
        ({"on": ("retriable-4xx",)}, 409, Status.ABORTED, True),
        ({"on": ("retriable-4xx",)}, 404, Status.NOT_FOUND, False),
        ({"on": (), "statuses": (418,)}, 418, Status.UNKNOWN, True),
        ({"on": ("unavailable",)}, 503, Status.UNAVAILABLE, True),
        ({"on": ("status-aborted",)}, 409, Status.ABORTED, True),
        ({"on": ("status-aborted",)}, 404, Status.NOT_FOUND, False),
        ({"on": ("connect-failure",)}, 503, Status.UNAVAILABLE, False),
    ],
)
async def test_which_responses_are_tried_again(
    kit: Kit, autojump_clock: MockClock, fields: Any, code: int, status: Status, again: bool
) -> None:
    upstream = kit.upstream(kit.response(code, status=status), kit.response())
    await Retry(**fields)(kit.web(), upstream)
    assert len(upstream.seen) == 1 + again


async def test_codes_of_web_responses_mean_nothing_in_other_protocols(
    kit: Kit, autojump_clock: MockClock
) -> None:
    upstream = kit.upstream(kit.response(500, status=Status.OK))
    await Retry(on=("5xx",))(kit.rpc(), upstream)
    assert len(upstream.seen) == 1
    await Retry(on=(), statuses=(500,))(kit.rpc(), upstream)
    assert len(upstream.seen) == 3


async def test_an_overloaded_upstream_is_left_alone(kit: Kit, autojump_clock: MockClock) -> None:
    response = kit.response(503, ("X-Envoy-Overloaded", "true"), status=Status.UNAVAILABLE)
    upstream = kit.upstream(response)
    await Retry(on=("5xx",))(kit.web(), upstream)
    assert len(upstream.seen) == 1


class Refused(StreamError):
    condition = "refused-stream"


@pytest.mark.parametrize(
    "error", [ConnectFailed, Refused, UpstreamReset, NoHealthyEndpoint, DeadlineExceeded]
)
async def test_a_streamed_body_goes_on_after_a_try_that_took_nothing_of_it(
    kit: Kit, autojump_clock: MockClock, error: type[StreamError]
) -> None:
    on = ("5xx", "refused-stream", "unavailable", "deadline-exceeded")
    upstream = kit.upstream(error("x"), kit.response())
    request = kit.web(method="POST", body=kit.body(b"1", b"2"))
    await Retry(on=on)(request, upstream)
    assert len(upstream.seen) == 2
    assert [await request.body.receive() for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("kept", [2, 1])
async def test_what_was_taken_of_a_streamed_body_is_sent_again_if_it_was_kept(
    kit: Kit, autojump_clock: MockClock, kept: int
) -> None:
    upstream = kit.upstream(FAILED, kit.response())
    sent: list[bytes] = []

    async def take(request: Any) -> Any:
        sent.append(b"".join([await request.body.receive() for _ in range(2)]))
        return await upstream(request)

    retry = Retry(max_body_bytes=Size(kept))
    request = kit.web(method="POST", body=kit.body(b"1", b"2", b"3"))
    if kept == 2:
        await retry(request, take)
        assert await request.body.receive() == b"3"
        assert sent == [b"12", b"12"]
    else:
        with pytest.raises(ConnectFailed):
            await retry(request, take)
        assert sent == [b"12"]


async def test_each_try_gets_the_same_streamed_body(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream(FAILED, kit.response())

    async def wrap(request: Any) -> Any:
        try:
            return await upstream(request)
        finally:
            request.body = kit.body(b"another")

    body = kit.body(b"1")
    await Retry()(kit.web(method="POST", body=body), wrap)
    assert await upstream.bodies[1].receive() == b"1"
    await upstream.bodies[1].aclose()
    assert body.closed


async def test_a_response_to_a_streamed_body_counts_too(
    kit: Kit, autojump_clock: MockClock
) -> None:
    response = kit.response(503, status=Status.UNAVAILABLE)
    lease = response.lease
    upstream = kit.upstream(response, kit.response())
    request = kit.web(method="POST", body=kit.body(b"1"))
    assert (await Retry(on=("5xx",))(request, upstream)).head.native_status == 200
    assert lease.closed == 1


async def test_a_streamed_body_has_no_time_per_try(kit: Kit, autojump_clock: MockClock) -> None:
    async def slow(request: Any) -> Any:
        await trio.sleep(5)
        return kit.response()

    retry = Retry(per_try_timeout=Duration(2))
    response = await retry(kit.web(method="POST", body=kit.body(b"1")), slow)
    assert response.head.native_status == 200


async def test_once_the_response_has_begun_nothing_is_tried_again(
    kit: Kit, autojump_clock: MockClock
) -> None:
    request, upstream = kit.web(), kit.upstream(FAILED)
    request.record.response_started = True
    with pytest.raises(ConnectFailed):
        await Retry()(request, upstream)
    assert len(upstream.seen) == 1


async def test_each_try_starts_from_the_same_request(kit: Kit, autojump_clock: MockClock) -> None:
    request, upstream = kit.web(), kit.upstream(FAILED, FAILED, kit.response())
    request.record.flag("RL")
    inside = ChangeHeaders(request=HeaderChanges(add={"x": "%start_time%"}))

    async def fail(request: Any) -> Any:
        await request.body.receive()
        request.record.flag("UF")
        attempt_of(request)
        request.record.detail = "x"
        return await upstream(request)

    retry = Retry(attempts=2)
    await retry(request, lambda r: inside(r, fail))
    assert [len(head.headers.get_all("x")) for head in upstream.seen] == [1, 1, 1]
    assert request.record.flags == "RL,UF"
    assert len(request.record.attempts) == 3


async def test_who_still_sends_a_failed_try_does_not_count_for_the_next(
    kit: Kit, autojump_clock: MockClock
) -> None:
    request = kit.web(method="POST", body=kit.body(b"1", b"2"))
    tries: list[Request] = []

    async def send(tried: Request) -> Any:
        for earlier in tries:
            earlier.record.received_bytes += 100
            earlier.record.detail = "late"
        tries.append(tried)
        attempt_of(tried)
        assert await tried.body.receive() == b"1"
        tried.record.received_bytes += 1
        if len(tries) < 3:
            raise ConnectFailed("x")
        return kit.response()

    await Retry(attempts=2)(request, send)
    assert (request.record.received_bytes, request.record.detail) == (1, "")
    assert len(request.record.attempts) == 3
    assert request.record is tries[-1].record


class Told(WrappedBody):
    def __init__(self, request: Request, told: list[type[BodyEnding]]) -> None:
        super().__init__(request.body)
        self.told = told

    def ended(self, how: BodyEnding) -> None:
        self.told.append(type(how))


@pytest.mark.parametrize("read", [False, True])
async def test_whoever_wraps_the_body_of_a_try_learns_that_it_is_over(
    kit: Kit, autojump_clock: MockClock, read: bool
) -> None:
    upstream = kit.upstream(FAILED, kit.response())
    told: list[type[BodyEnding]] = []

    async def wrap(request: Request) -> Any:
        request.body = Told(request, told)
        if read and len(upstream.seen) == 1:
            await read_whole(request.body, 10)
        return await upstream(request)

    body = kit.body(b"1")
    request = kit.web(method="POST", body=body)
    await Retry()(request, wrap)
    assert told == ([GivenUp, Complete] if read else [GivenUp])
    assert not body.closed
    await request.body.aclose()  # as the driver does when the stream is over
    assert told == [GivenUp, Complete if read else GivenUp]
    assert body.closed


async def test_a_request_shows_what_filters_made_of_the_try_that_was_cut_off(
    kit: Kit, autojump_clock: MockClock
) -> None:
    inside = ChangeHeaders(request=HeaderChanges(add={"x": "%method%"}))
    upstream = kit.upstream(FAILED, trio.Event())
    request = kit.web(method="POST", body=kit.body(b"1"))
    with trio.move_on_after(5):
        await Retry()(request, lambda r: inside(r, upstream))
    assert request.head.headers.get_all("x") == ["POST"]
    assert len(upstream.seen) == 2


async def test_a_try_has_its_own_time(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream(trio.Event(), kit.response())
    retry = Retry(on=("deadline-exceeded",), per_try_timeout=Duration(2))
    (draw,) = drawn(1)
    start = trio.current_time()
    await retry(kit.web(), upstream)
    assert trio.current_time() - start == pytest.approx(2 + BackOff().wait(1, draw))
    with pytest.raises(DeadlineExceeded, match="per_try_timeout"):
        await retry(kit.web(), kit.upstream(trio.Event()))


class Ready(trio.abc.ReceiveChannel[bytes | Trailers]):
    """A body all of which is there, though not as one."""

    def __init__(self, *pieces: bytes | Trailers | StreamError) -> None:
        self.pieces = pieces

    async def receive(self) -> bytes | Trailers:
        if not self.pieces:
            raise trio.EndOfChannel
        piece, *rest = self.pieces
        self.pieces = tuple(rest)
        if isinstance(piece, StreamError):
            raise piece
        return piece

    async def aclose(self) -> None:
        """Hold nothing."""


@attrs.define
class Permits:
    left: int
    taken: int = 0

    def acquire(self, _client: int) -> bool:
        if self.left:
            self.left -= 1
            self.taken += 1
            return True
        return False

    def release(self, _client: int) -> None:
        self.left += 1


async def test_a_retry_needs_a_permit_and_gives_it_back(
    kit: Kit, autojump_clock: MockClock
) -> None:
    permits = Permits(1)
    request, upstream = kit.web(), kit.upstream(FAILED)
    attempt_of(request, permits=permits)
    with pytest.raises(ConnectFailed):
        await Retry(attempts=2)(request, upstream)
    assert (permits.left, permits.taken) == (1, 2)


async def test_without_a_permit_the_original_outcome_goes_on(
    kit: Kit, autojump_clock: MockClock
) -> None:
    request, response = kit.web(), kit.response(503, status=Status.UNAVAILABLE)
    lease = response.lease
    attempt_of(request, permits=Permits(0))
    assert await Retry(on=("5xx",))(request, kit.upstream(response)) is response
    assert lease.closed == 0


@pytest.mark.parametrize("moment", [0.5, 10.0])
async def test_cancelled_while_waiting_or_trying_it_gives_the_permit_back(
    kit: Kit, autojump_clock: MockClock, moment: float
) -> None:
    permits = Permits(1)
    request = kit.web()
    attempt_of(request, permits=permits)
    back_off = BackOff(base=Duration(0.2))
    (draw,) = drawn(1)
    retry = Retry(back_off=back_off)
    with trio.move_on_after(moment * back_off.wait(1, draw)) as scope:
        await retry(request, kit.upstream(FAILED, trio.Event()))
    assert scope.cancelled_caught
    assert (permits.left, permits.taken) == (1, 1)


def call(kit: Kit) -> Any:
    request = kit.web("/s/m", method="POST")
    target = attrs.evolve(request.head.extra, rpc=Rpc("grpc", "s", "m"))
    request.head = attrs.evolve(request.head, extra=target)
    return request


def ended(status: Status) -> Trailers:
    return Trailers(1, Headers(), status)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("cancelled", Status.CANCELLED),
        ("deadline-exceeded", Status.DEADLINE_EXCEEDED),
        ("internal", Status.INTERNAL),
        ("resource-exhausted", Status.RESOURCE_EXHAUSTED),
        ("unavailable", Status.UNAVAILABLE),
        ("status-data-loss", Status.DATA_LOSS),
    ],
)
async def test_a_status_in_trailers_counts_before_any_message(
    kit: Kit, autojump_clock: MockClock, name: str, status: Status
) -> None:
    failed = kit.response(body=Ready(ended(status)))
    lease = failed.lease
    good = kit.response(body=Ready(b"12", ended(Status.OK)))
    upstream = kit.upstream(failed, good)
    answer = await Retry(on=(name,))(call(kit), upstream)
    assert lease.closed == 1
    assert await answer.body.receive() == b"12"
    assert await answer.body.receive() == ended(Status.OK)
    with pytest.raises(trio.EndOfChannel):
        await answer.body.receive()
    await answer.body.aclose()
    other = kit.upstream(kit.response(body=Ready(ended(Status.NOT_FOUND))))
    answer = await Retry(on=(name,))(call(kit), other)
    assert await answer.body.receive() == ended(Status.NOT_FOUND)
    assert len(other.seen) == 1


async def test_after_a_message_it_counts_no_more(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream(kit.response(body=Ready(b"1", ended(Status.UNAVAILABLE))))
    answer = await Retry(on=("unavailable",))(call(kit), upstream)
    assert [await answer.body.receive() for _ in range(2)] == [b"1", ended(Status.UNAVAILABLE)]
    assert len(upstream.seen) == 1


async def test_nobody_waits_for_trailers(kit: Kit, autojump_clock: MockClock) -> None:
    later = trio.Event()
    body = kit.body(later, ended(Status.UNAVAILABLE))
    start = trio.current_time()
    answer = await Retry(on=("unavailable",))(call(kit), kit.upstream(kit.response(body=body)))
    assert trio.current_time() == start
    assert answer.body is body
    later.set()


async def test_a_body_that_is_broken_already_is_a_failure(
    kit: Kit, autojump_clock: MockClock
) -> None:
    broken = kit.response(body=Ready(UpstreamReset("x")))
    empty = kit.response(body=Ready())
    retry = Retry(on=("reset", "unavailable"))
    answer = await retry(call(kit), kit.upstream(broken, empty))
    assert answer is empty
    with pytest.raises(trio.EndOfChannel):
        await answer.body.receive()


@pytest.mark.parametrize(
    "fields",
    [{"on": ("unknown",)}, {"on": ()}, {"attempts": -1}, {"per_try_timeout": 0}],
)
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown condition|needs a condition|must be"):
        Retry(**fields)


def test_equal_configurations_are_equal() -> None:
    assert Retry(on=("5xx",)) == Retry(on=("5xx",))
    assert Retry(on=("5xx",)) != Retry(on=("reset",))
    assert set(CONDITIONS) > {"5xx", "reset", "status-aborted", "internal"}


@pytest.mark.parametrize(
    ("on", "field", "again"),
    [
        (("5xx",), ("x-envoy-ratelimited", "true"), False),
        (("envoy-ratelimited",), ("x-envoy-ratelimited", "true"), True),
        (("envoy-ratelimited",), ("x-other", "1"), False),
        (("retriable-headers",), ("X-Again", "yes"), True),
        (("retriable-headers",), ("x-again", "no"), False),
        (("retriable-headers",), ("x-any", "no"), True),
        (("unavailable",), ("x-again", "yes"), True),
    ],
)
async def test_fields_of_responses_that_lead_to_a_retry_or_forbid_it(
    kit: Kit, autojump_clock: MockClock, on: Any, field: tuple[str, str], again: bool
) -> None:
    upstream = kit.upstream(kit.response(503, field, status=Status.UNAVAILABLE), kit.response())
    retry = Retry(on=on, retriable_headers={"x-again": "yes", "x-any": ""})
    await retry(kit.web(), upstream)
    assert len(upstream.seen) == 1 + again


async def test_a_response_says_how_long_to_wait(kit: Kit, autojump_clock: MockClock) -> None:
    slow_down = kit.response(503, ("retry-after", "20"), status=Status.UNAVAILABLE)
    upstream = kit.upstream(slow_down, kit.response())
    retry = Retry(on=("unavailable",), rate_limited_back_off=RateLimitedBackOff())
    (draw,) = drawn(1)
    await retry(kit.web(), upstream)
    assert upstream.times[1] - upstream.times[0] == pytest.approx(20 * (1 + draw / 2))


async def test_a_client_decides_where_it_may(kit: Kit, autojump_clock: MockClock) -> None:
    fields = [
        ("x-envoy-retry-on", "5xx,nonsense"),
        ("x-envoy-max-retries", "3"),
        ("x-envoy-upstream-rq-timeout-ms", "7000"),
    ]
    failing = kit.response(500, status=Status.INTERNAL)
    upstream = kit.upstream(failing)
    request = kit.web("/", *fields, ("x-mine", "1"))
    await Retry(on=(), client_control=True)(request, upstream)
    assert len(upstream.seen) == 4
    assert kit.stream.deadline == 7.0
    assert all(list(head.headers) == [("x-mine", "1")] for head in upstream.seen)


async def test_a_client_decides_nothing_where_it_may_not(
    kit: Kit, autojump_clock: MockClock
) -> None:
    upstream = kit.upstream(kit.response(500, status=Status.INTERNAL))
    request = kit.web("/", ("x-envoy-retry-on", "5xx"), ("x-envoy-upstream-rq-timeout-ms", "7"))
    await Retry()(request, upstream)
    assert [list(head.headers) for head in upstream.seen] == [[]]
    assert kit.stream.deadlines == []


async def test_a_client_may_want_no_retry(kit: Kit, autojump_clock: MockClock) -> None:
    upstream = kit.upstream(FAILED)
    with pytest.raises(ConnectFailed):
        await Retry(client_control=True)(kit.web("/", ("x-envoy-max-retries", "0")), upstream)
    assert len(upstream.seen) == 1


async def test_a_try_of_which_nothing_comes_is_over(kit: Kit, autojump_clock: MockClock) -> None:
    body = kit.body(b"1", trio.Event())
    upstream = kit.upstream(trio.Event(), kit.response(body=body))
    retry = Retry(on=("deadline-exceeded",), per_try_idle_timeout=Duration(2.0))
    start = trio.current_time()
    answer = await retry(kit.web(), upstream)
    assert 2 <= trio.current_time() - start < 3
    assert await answer.body.receive() == b"1"
    with pytest.raises(DeadlineExceeded, match="per_try_idle_timeout"):
        await answer.body.receive()
    await answer.aclose()
    assert body.closed
