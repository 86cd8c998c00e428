"""What every stream has: an answer whatever its handler does, and a deadline."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.connection.kit import request_of
from xproxy.connection.failures import INTERNAL_ERROR
from xproxy.connection.streams import StreamScope, answer
from xproxy.model.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    RateLimited,
    StreamIdle,
)
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import uncounted
from xproxy.transport.timers import Timers


async def test_a_response_goes_through() -> None:
    response = Response(ResponseHead(status=Status.OK), BytesBody())

    async def handle(_request: Request) -> Response:
        return response

    assert await answer(handle, request_of()) is response


async def test_a_stream_error_is_a_local_reply_with_all_it_carries() -> None:
    async def handle(_request: Request) -> Response:
        raise RateLimited("2 a second")

    request = request_of()
    response = await answer(handle, request)
    assert response.head.status is Status.RESOURCE_EXHAUSTED
    assert response.head.native_status is None
    assert isinstance(response.head.extra, Local)
    assert response.head.extra.retry_after == 1
    assert response.head.extra.detail == "2 a second"
    assert request.record.local
    assert request.record.flags == "RL"
    assert request.record.detail == "2 a second"


@pytest.mark.parametrize("error", [LocalProtocolError("no"), ZeroDivisionError("no")])
async def test_anything_else_is_an_internal_error_and_tells_the_client_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(_request: Request) -> Response:
        raise error

    request = request_of()
    response = await answer(handle, request)
    assert response.head is INTERNAL_ERROR
    assert request.record.local
    assert len(caplog.records) == 1


async def test_cancellation_passes(autojump_clock: MockClock) -> None:
    async def handle(_request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(1) as scope:
        await answer(handle, request_of())
    assert scope.cancelled_caught


class Stream(StreamScope):
    """Runs one stream under the scope."""

    def __init__(self, timers: Timers, idle_limit: float) -> None:
        super().__init__(timers, uncounted())
        self._idle = idle_limit

    async def run(self, work: object) -> None:
        with trio.CancelScope() as scope:
            self.scope = self._timer.scope = scope
            self._begin(trio.current_time(), self._idle)
            assert callable(work)
            await work()


async def reason(work: object, idle_limit: float = 10, deadline: float | None = None) -> object:
    timers = Timers()
    stream = Stream(timers, idle_limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)

        async def do() -> None:
            if deadline is not None:
                stream.limit(trio.current_time() + deadline)
            assert callable(work)
            await work(stream)

        await stream.run(do)
        nursery.cancel_scope.cancel()
    return stream.interruption()


async def sleep(_stream: Stream) -> None:
    await trio.sleep(100)


async def keep_moving(stream: Stream) -> None:
    for _ in range(20):
        await trio.sleep(9)
        stream.touch()


async def test_a_stream_on_which_nothing_moves_is_idle(autojump_clock: MockClock) -> None:
    error = await reason(sleep)
    assert isinstance(error, StreamIdle)
    assert "10 s" in error.detail
    assert trio.current_time() == 10


async def test_a_stream_that_moves_is_not(autojump_clock: MockClock) -> None:
    assert await reason(keep_moving) is None
    assert trio.current_time() == 180


async def test_a_stream_that_moves_has_its_deadline_all_the_same(
    autojump_clock: MockClock,
) -> None:
    assert isinstance(await reason(keep_moving, deadline=50), DeadlineExceeded)
    assert trio.current_time() == 50


async def test_silence_counts_before_the_deadline(autojump_clock: MockClock) -> None:
    assert isinstance(await reason(sleep, deadline=50), StreamIdle)
    assert trio.current_time() == 10


async def test_without_an_idle_limit_the_deadline_counts_alone(autojump_clock: MockClock) -> None:
    assert isinstance(await reason(sleep, idle_limit=0, deadline=50), DeadlineExceeded)
    assert trio.current_time() == 50


async def test_a_stream_without_a_nursery_starts_nothing() -> None:
    async def work() -> None:
        raise AssertionError

    assert not StreamScope(Timers(), uncounted()).start_soon(work)
