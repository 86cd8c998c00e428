"""When checks are made, by whom, and what becomes of endpoints, on a clock of the test's."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.upstream.health.kit import endpoints_of
from xproxy.config.health import CheckConfig, HealthCheckConfig
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.registry import default_registry
from xproxy.transport.poller import Poller
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.health.api import CheckFailed, Passed, Probe, Spoken
from xproxy.upstream.health.checks import MOST_AT_ONCE, HealthChecks
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.probe import Probing
from xproxy.upstream.stats import ClusterStats

AT_ONCE = CheckFailed("answered 503", at_once=True)
FAILS = CheckFailed("no answer")


def unfit(endpoint: Endpoint) -> int:
    """Return why; read anew each time, which a type checker does not do with a field."""
    return endpoint.unfit


@attrs.define(eq=False)
class Bench:
    """Endpoints by port; what a check of each raises or returns is set by the test."""

    endpoints: list[Endpoint] = attrs.field(factory=lambda: endpoints_of(1))
    stats: ClusterStats = attrs.field(factory=ClusterStats)
    outcome: dict[int, object] = attrs.field(factory=dict)
    made: list[tuple[float, int]] = attrs.field(factory=list)
    """When, and of which port."""
    hanging: dict[int, trio.Event] = attrs.field(factory=dict)
    running: int = 0
    most: int = 0
    checks: HealthChecks = attrs.field(init=False)

    async def check(self, probe: Probe) -> Passed | None:
        port = probe.address.port
        self.made.append((trio.current_time(), port))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if port in self.hanging:
                await self.hanging[port].wait()
            await trio.lowlevel.checkpoint()
        finally:
            self.running -= 1
        outcome = self.outcome.get(port)
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome is None or isinstance(outcome, Passed)
        return outcome

    def times(self, port: int = 1) -> list[float]:
        return [at for at, of in self.made if of == port]

    def counted(self, event: str) -> int:
        return self.stats.health_check.get(event, 0)


def config(check: Callable[[Probe], object], **options: object) -> HealthCheckConfig:
    given = {"timeout": 2.0, "interval": 10.0, "unhealthy_threshold": 2, "healthy_threshold": 2}
    return HealthCheckConfig(
        check=CheckConfig(name="test", options=check),
        **given | options,  # type: ignore[arg-type]  # by name
    )


@asynccontextmanager
async def checking(bench: Bench, *, traffic: bool = True, **options: object) -> AsyncIterator[None]:
    bench.stats.upstream_rq_total = int(traffic)
    address = Address("192.0.2.1", 1)
    wanted = ClusterConfig(
        endpoints=(EndpointConfig(address=address),),
        health_checks=(config(bench.check, **options),),
    )
    marks = Marks(bench.stats, lambda: None)
    marks.recount(bench.endpoints)
    # No check of these connects: the poller need not run.
    with contextlib.closing(Poller()) as poller:
        async with trio.open_nursery() as nursery:
            spoken = Spoken(default_registry().codec)
            probing = Probing("web", wanted, poller, DEFAULT_LIMITS, None, spoken)
            bench.checks = HealthChecks(
                probing, lambda: bench.endpoints, marks, bench.stats, Random(7)
            )
            nursery.start_soon(bench.checks.run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def passes(clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def test_an_endpoint_is_unfit_until_its_first_check(mock_clock: MockClock) -> None:
    """A host starts unhealthy/pending; the first success marks it healthy, whatever the threshold."""
    bench = Bench()
    bench.hanging[1] = trio.Event()
    (endpoint,) = bench.endpoints
    async with checking(bench, healthy_threshold=9):
        assert unfit(endpoint) == Unfit.UNCHECKED
        assert bench.stats.membership_excluded == 1
        bench.hanging[1].set()
        await wait_all_tasks_blocked()
        assert not unfit(endpoint)
        assert bench.stats.membership_healthy == 1


@pytest.mark.parametrize(
    "error",
    [FAILS, ConnectFailed("x"), trio.BrokenResourceError(), trio.ClosedResourceError()],
)
async def test_failures_count_towards_the_threshold(
    mock_clock: MockClock, error: Exception
) -> None:
    bench = Bench()
    (endpoint,) = bench.endpoints
    async with checking(bench):
        bench.outcome[1] = error
        await passes(mock_clock, 10)
        assert not unfit(endpoint)
        await passes(mock_clock, 10)
        assert unfit(endpoint) == Unfit.FAILED_CHECK
        assert bench.counted("network_failure") == bench.counted("failure") == 2
        bench.outcome[1] = None
        await passes(mock_clock, 10)
        assert unfit(endpoint)
        await passes(mock_clock, 10)
        assert not unfit(endpoint)
        assert bench.counted("success") == 3
        assert bench.counted("attempt") == 5


async def test_a_wrong_answer_makes_it_unhealthy_at_once(mock_clock: MockClock) -> None:
    bench = Bench()
    async with checking(bench, unhealthy_threshold=9):
        bench.outcome[1] = AT_ONCE
        await passes(mock_clock, 10)
        assert unfit(bench.endpoints[0]) == Unfit.FAILED_CHECK
        assert bench.endpoints[0].checks[0].detail == "answered 503"


async def test_a_check_that_takes_too_long_has_failed(mock_clock: MockClock) -> None:
    bench = Bench()
    async with checking(bench, unhealthy_threshold=1):
        bench.hanging[1] = trio.Event()
        await passes(mock_clock, 10)
        assert not unfit(bench.endpoints[0])
        await passes(mock_clock, 2)
        assert unfit(bench.endpoints[0]) == Unfit.FAILED_CHECK
        assert bench.endpoints[0].checks[0].detail == "no answer in 2 s (timeout)"


async def test_a_check_that_cannot_be_made_has_failed(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(outcome={1: KeyError("bug")})
    async with checking(bench):
        assert unfit(bench.endpoints[0]) == Unfit.FAILED_CHECK
        assert bench.endpoints[0].checks[0].detail == "the check itself failed: KeyError"
    assert "health check test of 192.0.2.1:1 has failed" in caplog.text


async def test_who_passes_may_be_degraded(mock_clock: MockClock) -> None:
    bench = Bench(outcome={1: Passed(degraded=True)})
    async with checking(bench):
        assert bench.endpoints[0].degraded == Degraded.CHECKED
        assert bench.stats.membership_degraded == 1
        bench.outcome.clear()
        await passes(mock_clock, 10)
        assert not bench.endpoints[0].degraded


async def test_who_passes_a_check_and_is_unhealthy_yet_is_not_told_of(
    mock_clock: MockClock,
) -> None:
    """An ejection ends with a check that passes only where the endpoint is healthy by it."""
    bench = Bench()
    async with checking(bench, unhealthy_threshold=1):
        told: list[Endpoint] = []
        bench.checks.passed = told.append
        bench.outcome[1] = FAILS
        await passes(mock_clock, 10)
        bench.outcome[1] = None
        await passes(mock_clock, 10)
        assert unfit(bench.endpoints[0])
        assert not told
        await passes(mock_clock, 10)
        assert told == bench.endpoints


async def test_checks_that_are_nearly_due_come_along_with_one_that_is(
    mock_clock: MockClock,
) -> None:
    """By 1 % of the interval at most, and none before another is due."""
    bench = Bench(endpoints=endpoints_of(3))
    async with checking(bench):
        for port, event in ((2, trio.Event()), (3, trio.Event())):
            bench.hanging[port] = event
        await passes(mock_clock, 10)
        for port, after in ((2, 0.05), (3, 0.5)):
            await passes(mock_clock, after)
            bench.hanging.pop(port).set()
            await wait_all_tasks_blocked()
        await passes(mock_clock, 9.44)
        assert [len(bench.times(port)) for port in (1, 2, 3)] == [2, 2, 2]
        await passes(mock_clock, 0.01)
        assert [len(bench.times(port)) for port in (1, 2, 3)] == [3, 3, 2]
        await passes(mock_clock, 0.55)
        assert bench.times(1)[2] == bench.times(2)[2] == pytest.approx(bench.times(3)[2] - 0.55)


async def test_without_traffic_checks_come_every_60_s(mock_clock: MockClock) -> None:
    """no_traffic_interval."""
    bench = Bench()
    async with checking(bench, traffic=False):
        await passes(mock_clock, 59)
        assert len(bench.made) == 1
        bench.stats.upstream_rq_total = 1
        await passes(mock_clock, 1)
        assert bench.times() == [0, 60]
        await passes(mock_clock, 10)
        assert bench.times() == [0, 60, 70]


async def test_an_answer_that_says_so_fails_it_until_checks_pass(mock_clock: MockClock) -> None:
    bench = Bench()
    async with checking(bench):
        bench.checks.fail_now(bench.endpoints[0])
        bench.checks.fail_now(bench.endpoints[0])
        assert unfit(bench.endpoints[0]) == Unfit.FAILED_CHECK
        assert bench.counted("passive_failure") == 1
        await passes(mock_clock, 10)
        assert unfit(bench.endpoints[0])
        await passes(mock_clock, 10)
        assert not unfit(bench.endpoints[0])


async def test_other_endpoints_are_checked_as_they_come_and_go(mock_clock: MockClock) -> None:
    first, second = endpoints_of(2)
    bench = Bench([first])
    async with checking(bench):
        bench.hanging[2] = trio.Event()
        bench.endpoints = [first, second]
        bench.checks.changed()
        await wait_all_tasks_blocked()
        assert unfit(second) == Unfit.UNCHECKED
        assert bench.times(2) == [0]
        # It goes while it is being checked: that ends, and nothing is made of it.
        bench.endpoints = [first]
        bench.checks.changed()
        await wait_all_tasks_blocked()
        assert bench.running == 0
        await passes(mock_clock, 10)
        assert bench.times(1) == [0, 10]
        assert bench.times(2) == [0]
        # It comes back.
        del bench.hanging[2]
        bench.endpoints = [first, second]
        bench.checks.changed()
        await wait_all_tasks_blocked()
        assert not unfit(second)


async def test_so_many_are_checked_at_a_time_and_then_spread(mock_clock: MockClock) -> None:
    """MOST_AT_ONCE, and a thousand endpoints over one interval."""
    bench = Bench(endpoints_of(1000))
    go = trio.Event()
    bench.hanging = dict.fromkeys(range(1, 1001), go)
    async with checking(bench):
        assert len(bench.made) == MOST_AT_ONCE
        go.set()
        await wait_all_tasks_blocked()
        assert bench.most == MOST_AT_ONCE
        assert len(bench.made) == 1000
        assert bench.stats.membership_healthy == 1000
        for second in range(1, 11):
            before = len(bench.made)
            await passes(mock_clock, 1)
            # A hundred: ten more or less, as some come a little early, with others.
            assert len(bench.made) - before in range(88, 122), second
        assert len(bench.made) in range(2000, 2022)
        await passes(mock_clock, 1)
        assert len(bench.made) in range(2099, 2122)


async def test_one_that_hangs_holds_up_no_other(mock_clock: MockClock) -> None:
    bench = Bench(endpoints_of(3))
    bench.hanging[1] = trio.Event()
    async with checking(bench, timeout=100.0):
        await passes(mock_clock, 10)
        assert bench.times(2) == bench.times(3) == [0, 10]
        assert bench.times(1) == [0]


async def test_changes_are_logged_and_every_failure_if_so_wanted(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    async with checking(bench, always_log_health_check_failures=True):
        bench.outcome[1] = FAILS
        await passes(mock_clock, 10)
        await passes(mock_clock, 10)
        bench.outcome[1] = None
        await passes(mock_clock, 10)
        await passes(mock_clock, 10)
    said = [record.getMessage() for record in caplog.records if "192.0.2.1" in record.getMessage()]
    assert said == [
        "cluster web: 192.0.2.1:1 is healthy",
        "cluster web: 192.0.2.1:1 failed a health check: no answer",
        "cluster web: 192.0.2.1:1 is unhealthy: no answer",
        "cluster web: 192.0.2.1:1 is healthy",
    ]


async def test_a_thousand_idle_endpoints_wake_the_process_rarely(mock_clock: MockClock) -> None:
    """Without traffic: 1,000 checks in 60 s, evenly."""
    bench = Bench(endpoints_of(1000))
    async with checking(bench, traffic=False):
        counts = []
        for _ in range(60):
            before = len(bench.made)
            await passes(mock_clock, 1)
            counts.append(len(bench.made) - before)
        assert max(counts) <= 18
        assert math.isclose(sum(counts), 1000, abs_tol=2)
