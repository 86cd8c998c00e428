"""Long work before a message is written: others run in between, and what fails is told as by ``send``."""

from __future__ import annotations

import math
import time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import request_of
from tests.connection.rpc import ASK, OK, outcome, question, upstream
from tests.transport.ends import polled
from xproxy.codecs.api import PREPARED_FROM
from xproxy.codecs.slices import Work
from xproxy.connection.preparing import prepared
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing.fakes.lines import LinesCodec, LinesPlugin
from xproxy.testing.proxy import proxy_pair
from xproxy.transport.poller import Poller
from xproxy.transport.turns import ALONE, SLICE, Turns

HEAD = RequestHead(service="s", method="m")
FRAME = Head(1, HEAD, b"x", True)
READY = Head(1, HEAD, b"y", True)


class Preparing:
    """Works for a slice each time."""

    def __init__(self, slices: int, error: Exception | None = None) -> None:
        self.slices = slices
        self.error = error

    def prepare(self, frame: Head) -> Work[Head] | None:
        assert frame is FRAME
        return self._work() if self.slices else None

    def _work(self) -> Work[Head]:
        for _ in range(self.slices):
            end = time.perf_counter() + SLICE
            while time.perf_counter() < end:
                pass
            yield
        if self.error is not None:
            raise self.error
        return READY


async def test_what_is_short_costs_nothing() -> None:
    async with polled() as (stream, _):
        assert await prepared(Preparing(0), FRAME, stream) is FRAME


@pytest.mark.parametrize(("pressed", "least"), [(True, 40), (False, 40 * SLICE / ALONE)])
async def test_others_run_after_each_slice_of_each_of_many(pressed: bool, least: float) -> None:
    done: list[Head] = []

    def turns(poller: Poller) -> Turns:
        poller.turns.pressed_until = math.inf if pressed else 0.0
        return poller.turns

    async with polled(turns=turns) as (stream, _), trio.open_nursery() as nursery:

        async def one() -> None:
            done.append(await prepared(Preparing(5), FRAME, stream))

        for _ in range(10):
            nursery.start_soon(one)
        rounds = 0
        while len(done) < 10:
            await trio.lowlevel.checkpoint()
            rounds += 1
        # Ten times five slices, of which the first of each begin in one round.
        assert rounds >= least
    assert done == [READY] * 10


async def test_what_cannot_be_said_is_raised() -> None:
    async with polled() as (stream, _):
        with pytest.raises(LocalProtocolError):
            await prepared(Preparing(1, LocalProtocolError("no")), FRAME, stream)


# ---- on a shared connection: what was prepared meanwhile waits for room, too


class Slow(LinesCodec):
    """Each long message is work that lets others run."""

    def prepare(self, frame: Head) -> Work[Head] | None:
        return self._work(frame)

    def _work(self, frame: Head) -> Work[Head]:
        end = time.perf_counter() + SLICE
        while time.perf_counter() < end:
            pass
        yield
        return frame


class SlowPlugin(LinesPlugin):
    def open(self, role: Role, limits: Limits) -> LinesCodec:
        return Slow(role, limits)


LONG = b"x" * (2 * PREPARED_FROM)
LEAST = 100
"""Bytes that make an outbox full: any message."""


async def test_calls_prepared_at_a_time_do_not_go_beyond_the_outbox(
    autojump_clock: MockClock,
) -> None:
    async with (
        upstream(SlowPlugin(), bounded=True, max_outbox_bytes=LEAST) as u,
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            nursery.start_soon(outcome, u.connection, request_of(ASK, BytesBody(LONG)))
        await wait_all_tasks_blocked()
        assert 0 < u.connection.wire.outbox.size < 2 * len(LONG)
        nursery.cancel_scope.cancel()


async def test_answers_prepared_at_a_time_do_not_go_beyond_the_outbox(
    autojump_clock: MockClock,
) -> None:
    async def long(_request: Request) -> Response:
        return Response(OK, BytesBody(LONG))

    async with proxy_pair(SlowPlugin(), handler=long, bounded=True, max_outbox_bytes=LEAST) as pair:
        await pair.client.send(b"".join(question(number) for number in range(1, 11)))
        await wait_all_tasks_blocked()
        assert isinstance(pair.driver, Multiplexed)
        assert 0 < pair.driver.wire.outbox.size < 2 * len(LONG)
        pair.driver.close_soon()
