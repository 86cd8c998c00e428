"""What each ending of an attempt does to the numbers of its cluster and endpoint."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.attempts import attempts_of
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed, Overflow, RequestBroken, UpstreamReset
from xproxy.model.limits import Duration
from xproxy.model.status import Status
from xproxy.stream.ending import ANSWERED, GIVEN_UP, AttemptEnding, Broke, GivenUp
from xproxy.upstream.attempt import Attempt
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.tally import Tally

WHERE = Address("192.0.2.9", 1)


@attrs.define
class Bench:
    """A cluster of one endpoint, which is marked for 10 s when it has failed twice in a row."""

    stats: ClusterStats = attrs.field(factory=ClusterStats)
    endpoint: Endpoint = attrs.field(factory=lambda: Endpoint(WHERE))
    marked: list[float] = attrs.field(factory=list)

    def attempt(self, how: AttemptEnding, *, head: bool = False) -> None:
        config = ClusterConfig(
            endpoints=(EndpointConfig(address=WHERE),),
            failure_threshold=2,
            failure_time=Duration(10.0),
        )
        tally = Tally(config, self.stats, lambda: self.marked.append(trio.current_time()))
        of = attempts_of(tally.ended)
        of.now = trio.current_time
        self.stats.upstream_rq_active += 1
        self.endpoint.active += 1
        attempt = Attempt(of, self.endpoint, None)
        if head:
            attempt.goes_on(None, lambda: None)
        attempt.end(how)

    def numbers(self) -> dict[str, object]:
        """Return what is not as it was at first."""
        fresh = attrs.asdict(ClusterStats()) | {"failed": 0, "row": 0}
        found = attrs.asdict(self.stats) | {
            "failed": self.endpoint.failed,
            "row": self.endpoint.failures_in_a_row,
        }
        assert self.endpoint.active == 0
        return {name: value for name, value in found.items() if value != fresh[name]}


RESET = Broke(UpstreamReset("x"))


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize(
    ("how", "without_head", "with_head"),
    [
        (ANSWERED[Status.OK], {"statuses": {Status.OK: 1}}, {"statuses": {Status.OK: 1}}),
        (
            ANSWERED[Status.INTERNAL],
            {"statuses": {Status.INTERNAL: 1}},
            {"statuses": {Status.INTERNAL: 1}},
        ),
        (
            RESET,
            {"upstream_rq_reset": 1, "failed": 1, "row": 1},
            {
                "upstream_rq_reset": 1,
                "failed": 1,
                "row": 1,
                "statuses": {Status.UNAVAILABLE: 1},
            },
        ),
        (GIVEN_UP, {"upstream_rq_cancelled": 1}, {"statuses": {Status.CANCELLED: 1}}),
        (GivenUp(Overflow("x")), {}, {"statuses": {Status.RESOURCE_EXHAUSTED: 1}}),
    ],
)
async def test_each_ending_is_counted_as_what_it_is(
    how: AttemptEnding, without_head: dict[str, object], with_head: dict[str, object], head: bool
) -> None:
    bench = Bench()
    bench.attempt(how, head=head)
    assert bench.numbers() == (with_head if head else without_head)


async def test_failures_in_a_row_mark_an_endpoint_once(autojump_clock: MockClock) -> None:
    bench = Bench()
    start = trio.current_time()
    bench.attempt(RESET)
    assert bench.endpoint.failing_until == 0.0
    bench.attempt(Broke(ConnectFailed("x")))
    assert bench.endpoint.failing_until == start + 10
    await trio.sleep(1)
    bench.attempt(RESET)  # it was under way
    assert bench.endpoint.failing_until == start + 11
    assert bench.stats.endpoint_failing == 1
    await trio.sleep(10)
    bench.attempt(RESET)
    assert bench.stats.endpoint_failing == 2
    assert bench.marked == [start, start + 11]


@pytest.mark.parametrize(
    ("how", "head", "row"),
    [
        (ANSWERED[Status.INTERNAL], False, 0),
        (GIVEN_UP, True, 0),
        (GIVEN_UP, False, 1),
        (GivenUp(RequestBroken("x")), True, 1),
        (GivenUp(RequestBroken("x")), False, 1),
    ],
)
async def test_an_answer_ends_the_row_and_what_says_nothing_does_not(
    how: AttemptEnding, head: bool, row: int
) -> None:
    bench = Bench()
    bench.attempt(RESET)
    bench.attempt(how, head=head)
    assert bench.endpoint.failures_in_a_row == row
