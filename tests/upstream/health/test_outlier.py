"""Outlier detection: each number and rule of Envoy's, by its arithmetic."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.upstream.health.kit import ALL, Drawn, Outliers
from xproxy.config.health import OutlierDetectionConfig
from xproxy.model.errors import ConnectFailed, DeadlineExceeded, UpstreamReset
from xproxy.model.limits import Duration
from xproxy.model.status import SERVER_FAULTS, Status
from xproxy.stream.ending import ANSWERED, DEPARTED, GIVEN_UP, AttemptEnding, Broke
from xproxy.upstream.attempt import TIMED_OUT
from xproxy.upstream.health.outlier import code_of_failure, code_of_status, success_threshold
from xproxy.upstream.health.records import OutlierRecord

# ---- defaults


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("consecutive_5xx", 5),
        ("enforcing_consecutive_5xx", 100),
        ("consecutive_gateway_failure", 5),
        ("enforcing_consecutive_gateway_failure", 0),
        ("consecutive_local_origin_failure", 5),
        ("enforcing_consecutive_local_origin_failure", 100),
        ("interval", 10.0),
        ("base_ejection_time", 30.0),
        ("longest_ejection", 300.0),
        ("max_ejection_time_jitter", 0.0),
        ("max_ejection_percent", 10),
        ("always_eject_one_host", False),
        ("success_rate_minimum_hosts", 5),
        ("success_rate_request_volume", 100),
        ("success_rate_stdev_factor", 1900),
        ("enforcing_success_rate", 100),
        ("enforcing_local_origin_success_rate", 100),
        ("failure_percentage_threshold", 85),
        ("failure_percentage_minimum_hosts", 5),
        ("failure_percentage_request_volume", 50),
        ("enforcing_failure_percentage", 0),
        ("enforcing_failure_percentage_local_origin", 0),
        ("split_external_local_origin_errors", False),
        ("successful_active_health_check_uneject_host", True),
    ],
)
def test_defaults_are_envoys(field: str, default: object) -> None:
    assert getattr(OutlierDetectionConfig(), field) == default


def test_the_longest_ejection_is_300_s_or_the_base() -> None:
    assert OutlierDetectionConfig(base_ejection_time=Duration(400.0)).longest_ejection == 400


# ---- rule 1: failures in a row


async def test_five_5xx_in_a_row_eject() -> None:
    """consecutive_5xx 5, enforcing 100 %."""
    web = Outliers.of(10)
    web.answer(3, 500, 501, 500, 599)
    assert web.ejected == []
    web.answer(3, 500)
    assert web.ejected == [3]
    assert web.told
    assert web.counted("ejections_detected_consecutive_5xx") == 1
    assert web.counted("ejections_enforced_consecutive_5xx") == 1
    assert web.counted("ejections_enforced_total") == 1


@pytest.mark.parametrize("good", [200, 301, 404, 429, 499])
async def test_any_other_code_begins_anew(good: int) -> None:
    web = Outliers.of(10)
    web.answer(3, 500, 500, 500, 500, good, 500, 500, 500, 500)
    assert web.ejected == []
    web.answer(3, 500)
    assert web.ejected == [3]


async def test_counters_are_of_each_endpoint() -> None:
    web = Outliers.of(10)
    for number in range(5):
        web.answer(number, 500, 500, 500, 500)
    assert web.ejected == []


async def test_gateway_failures_are_counted_and_not_enforced() -> None:
    """consecutive_gateway_failure 5, enforcing 0 %."""
    web = Outliers.of(10, consecutive_5xx=100)
    web.answer(3, 502, 503, 504, 502, 503)
    assert web.counted("ejections_detected_consecutive_gateway_failure") == 1
    assert web.counted("ejections_enforced_total") == 0
    assert web.ejected == []


async def test_a_5xx_that_is_no_gateways_begins_the_gateway_count_anew() -> None:
    web = Outliers.of(10, consecutive_5xx=100, enforcing_consecutive_gateway_failure=100)
    web.answer(3, 502, 503, 504, 502, 500, 502, 503, 504, 502)
    assert web.ejected == []
    web.answer(3, 502)
    assert web.ejected == [3]


async def test_a_detection_begins_the_count_anew_also_if_not_enforced() -> None:
    web = Outliers.of(10, enforcing_consecutive_5xx=0)
    web.answer(3, *[500] * 9)
    assert web.counted("ejections_detected_consecutive_5xx") == 1
    web.answer(3, 500)
    assert web.counted("ejections_detected_consecutive_5xx") == 2
    assert web.ejected == []


@pytest.mark.parametrize(
    "field",
    ["consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"],
)
async def test_a_count_that_is_over_a_lower_threshold_is_enough(field: str) -> None:
    """A reload may lower it: what was counted before goes on, and must not pass it by."""
    local = field == "consecutive_local_origin_failure"
    options: dict[str, object] = {field: 3, "split_external_local_origin_errors": local}
    web = Outliers.of(10, None, None, **options)
    web.endpoints[3].outliers = record = OutlierRecord()
    setattr(record, field, 7)
    if local:
        web.fail(3)
    else:
        web.answer(3, 503)
    assert web.counted(f"ejections_detected_{field}") == 1


# ---- rule 2: local failures


@pytest.mark.parametrize(
    ("error", "code"),
    [(DeadlineExceeded("x"), 504), (ConnectFailed("x"), 503), (UpstreamReset("x"), 500)],
)
def test_local_failures_count_as_codes(error: Exception, code: int) -> None:
    assert code_of_failure(error) == code


@pytest.mark.parametrize("status", Status)
def test_a_neutral_status_counts_as_a_code(status: Status) -> None:
    code = code_of_status(status)
    assert (500 <= code < 600) is (status in SERVER_FAULTS)
    gateway = {Status.UNAVAILABLE: 503, Status.DEADLINE_EXCEEDED: 504}
    assert code == gateway.get(status, code)
    assert status in gateway or code in (200, 500)


FAILED: AttemptEnding = Broke(ConnectFailed("x"))


@pytest.mark.parametrize(
    ("how", "code", "faulty"),
    [
        (FAILED, None, True),
        (Broke(UpstreamReset("x")), 200, True),  # its head was good, the rest did not come
        (ANSWERED[Status.UNAVAILABLE], None, True),
        (ANSWERED[Status.RESOURCE_EXHAUSTED], None, True),
        (ANSWERED[Status.RESOURCE_EXHAUSTED], 429, False),  # the web knows better
        (ANSWERED[Status.INTERNAL], 500, True),
        (ANSWERED[Status.NOT_FOUND], None, False),
        (GIVEN_UP, TIMED_OUT, True),
    ],
)
async def test_each_ending_of_an_attempt(
    how: AttemptEnding, code: int | None, faulty: bool
) -> None:
    web = Outliers.of(10)
    for _ in range(5):
        web.attempt(3, how, code)
    assert web.ejected == ([3] if faulty else [])


@pytest.mark.parametrize("how", [GIVEN_UP, DEPARTED])
async def test_an_attempt_of_which_nothing_is_known_counts_for_nothing(how: AttemptEnding) -> None:
    web = Outliers.of(10)
    web.answer(3, 500, 500, 500, 500)
    web.attempt(3, how)
    assert web.ejected == []
    web.answer(3, 500)
    assert web.ejected == [3]


async def test_split_local_failures_have_a_count_of_their_own() -> None:
    """consecutive_local_origin_failure 5, enforcing 100 % only when split."""
    web = Outliers.of(10, split_external_local_origin_errors=True)
    web.fail(3, 4)
    web.answer(3, 500)  # it has answered
    web.fail(3, 4)
    assert web.ejected == []
    assert web.endpoints[3].outliers is not None
    assert web.endpoints[3].outliers.consecutive_5xx == 1
    web.fail(3)
    assert web.ejected == [3]
    assert web.counted("ejections_enforced_consecutive_local_origin_failure") == 1
    assert web.counted("ejections_detected_consecutive_5xx") == 0


# ---- rules 3 and 4: rates of an interval


def test_the_example_of_the_success_rate() -> None:
    """Rates {50, 100, 100, 100, 100}: mean 90, deviation 20 of the population, threshold 52."""
    assert success_threshold([50, 100, 100, 100, 100], 1900) == pytest.approx(52)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.integers(0, 5000))
def test_the_threshold_is_at_most_the_mean(rates: list[float], factor: int) -> None:
    threshold = success_threshold(rates, factor)
    assert threshold <= sum(rates) / len(rates)
    if len(set(rates)) == 1:
        assert threshold == pytest.approx(rates[0])


def rate(web: Outliers, number: int, total: int, failed: int) -> None:
    """Never two failures in a row where that can be had."""
    codes = [500] * failed + [200] * (total - failed)
    seen = Counter[int]()

    def turn(code: int) -> tuple[int, int]:
        seen[code] += 1
        return seen[code], code

    web.answer(number, *sorted(codes, key=turn))


async def test_a_success_rate_below_the_threshold_ejects(mock_clock: MockClock) -> None:
    web = Outliers.of(5, mock_clock, None, **ALL)
    for number in range(5):
        rate(web, number, 100, 50 if number == 0 else 0)
    assert web.ejected == []
    web.advance()
    assert web.ejected == [0]
    assert web.counted("ejections_enforced_success_rate") == 1


@pytest.mark.parametrize(("hosts", "volume"), [(4, 100), (5, 99)])
async def test_too_few_endpoints_or_requests_are_not_compared(
    mock_clock: MockClock, hosts: int, volume: int
) -> None:
    """success_rate_minimum_hosts 5, success_rate_request_volume 100."""
    web = Outliers.of(hosts, mock_clock, None, **ALL)
    for number in range(hosts):
        rate(web, number, volume, volume // 2 if number == 0 else 0)
    web.advance()
    assert web.counted("ejections_detected_success_rate") == 0


async def test_an_interval_knows_nothing_of_the_one_before(mock_clock: MockClock) -> None:
    web = Outliers.of(5, mock_clock, None, **ALL)
    for _ in range(2):
        for number in range(5):
            rate(web, number, 99, 49 if number == 0 else 0)
        web.advance()
    assert web.counted("ejections_detected_success_rate") == 0


@pytest.mark.parametrize(("failures", "detected"), [(84, 0), (85, 1)])
async def test_a_failure_percentage_of_85_is_detected_and_not_enforced(
    mock_clock: MockClock, failures: int, detected: int
) -> None:
    """failure_percentage_threshold 85 %, enforcing_failure_percentage 0 %."""
    web = Outliers.of(
        5, mock_clock, None, **ALL, enforcing_success_rate=0, enforcing_consecutive_5xx=0
    )
    for number in range(5):
        rate(web, number, 100, failures if number == 0 else 0)
    web.advance()
    assert web.counted("ejections_detected_failure_percentage") == detected
    assert web.ejected == []


@pytest.mark.parametrize(("hosts", "volume", "detected"), [(5, 50, 1), (4, 50, 0), (5, 49, 0)])
async def test_failure_percentages_need_5_endpoints_with_50_requests(
    mock_clock: MockClock, hosts: int, volume: int, detected: int
) -> None:
    web = Outliers.of(
        hosts,
        mock_clock,
        None,
        **ALL,
        enforcing_consecutive_5xx=0,
        enforcing_failure_percentage=100,
    )
    for number in range(hosts):
        rate(web, number, volume, volume if number == 0 else 0)
    web.advance()
    assert web.counted("ejections_enforced_failure_percentage") == detected
    assert len(web.ejected) == detected


async def test_who_is_ejected_is_not_compared(mock_clock: MockClock) -> None:
    web = Outliers.of(5, mock_clock, None, **ALL)
    for number in range(5):
        rate(web, number, 100, 0)
    web.answer(0, *[500] * 5)
    assert web.ejected == [0]
    rate(web, 1, 100, 90)  # four are left, which are too few
    web.endpoints[1].outliers.calm()  # type: ignore[union-attr]  # it has one
    web.detector.restore(web.endpoints[1], "test")
    before = web.counted("ejections_detected_success_rate")
    web.advance()
    assert web.counted("ejections_detected_success_rate") == before


async def test_split_rates_are_compared_apart(mock_clock: MockClock) -> None:
    web = Outliers.of(
        5,
        mock_clock,
        None,
        **ALL,
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1000,
    )
    for number in range(5):
        web.answer(number, *[200] * 50)
        if number == 0:
            web.fail(number, 50)
        else:
            web.answer(number, *[200] * 50)
    web.advance()
    assert web.counted("ejections_enforced_local_origin_success_rate") == 1
    assert web.counted("ejections_detected_success_rate") == 0
    assert web.ejected == [0]


# ---- rule 5: the draw


@pytest.mark.parametrize(("draw", "ejects"), [(0.29, True), (0.30, False)])
async def test_so_many_percent_of_detections_are_enforced(draw: float, ejects: bool) -> None:
    web = Outliers.of(10, random=Drawn(draw), enforcing_consecutive_5xx=30)
    web.answer(3, *[500] * 5)
    assert bool(web.ejected) is ejects
    assert web.counted("ejections_detected_consecutive_5xx") == 1


# ---- rule 6: the guard


async def test_of_nine_endpoints_10_percent_are_none() -> None:
    web = Outliers.of(9)
    web.answer(3, *[500] * 5)
    assert web.ejected == []
    assert web.counted("ejections_detected_consecutive_5xx") == 1
    assert web.counted("ejections_overflow") == 1


async def test_one_may_always_go_if_so_wanted() -> None:
    web = Outliers.of(9, always_eject_one_host=True)
    web.answer(3, *[500] * 5)
    assert web.ejected == [3]
    web.answer(4, *[500] * 5)
    assert web.ejected == [3]


@given(
    hosts=st.integers(1, 60),
    percent=st.integers(0, 100),
    faulty=st.lists(st.integers(0, 59), max_size=80),
)
def test_never_more_are_ejected_than_allowed(hosts: int, percent: int, faulty: list[int]) -> None:
    async def main() -> None:
        web = Outliers.of(hosts, max_ejection_percent=percent)
        for number in faulty:
            web.answer(number % hosts, *[500] * 5)
        wanted = len({number % hosts for number in faulty})
        assert len(web.ejected) == min(wanted, percent * hosts // 100)

    trio.run(main)


# ---- rules 7 and 8: time, and return


async def test_who_is_ejected_comes_back_with_the_interval_after_30_s(
    mock_clock: MockClock,
) -> None:
    """base_ejection_time 30 s, interval 10 s: up to one interval late."""
    web = Outliers.of(10, mock_clock)
    mock_clock.jump(1)
    web.answer(3, *[500] * 5, 500)
    web.advance(2)
    assert web.ejected == [3]
    mock_clock.jump(9.5)
    web.detector.interval()
    assert web.ejected == [3]
    web.advance()
    assert web.ejected == []
    # The count begins anew.
    web.answer(3, *[500] * 4)
    assert web.ejected == []
    web.answer(3, 500)
    assert web.ejected == [3]


async def test_each_ejection_takes_longer_up_to_the_most(mock_clock: MockClock) -> None:
    """min(base × multiplier, max)."""
    web = Outliers.of(10, mock_clock, max_ejection_time=Duration(70.0))
    lengths = []
    for _ in range(5):
        web.answer(3, *[500] * 5)
        began = trio.current_time()
        while web.ejected:
            web.advance()
        lengths.append(trio.current_time() - began)
    assert lengths == [30, 60, 70, 70, 70]


async def test_the_multiplier_falls_by_one_each_healthy_interval(mock_clock: MockClock) -> None:
    web = Outliers.of(10, mock_clock)
    for _ in range(3):
        web.answer(3, *[500] * 5)
        while web.ejected:
            web.advance()
    record = web.endpoints[3].outliers
    assert record is not None
    multipliers = []
    while not record.quiet:
        multipliers.append(record.multiplier)
        web.advance()
    assert multipliers == [3, 2, 1]


async def test_not_in_the_interval_in_which_it_came_back(mock_clock: MockClock) -> None:
    web = Outliers.of(10, mock_clock)
    web.answer(3, *[500] * 5)
    web.advance(3)
    record = web.endpoints[3].outliers
    assert record is not None
    assert web.ejected == []
    assert record.multiplier == 1
    web.advance()
    assert record.multiplier == 0


async def test_jitter_is_added_to_an_ejection(mock_clock: MockClock) -> None:
    web = Outliers.of(10, mock_clock, Drawn(0.5), max_ejection_time_jitter=Duration(40.0))
    web.answer(3, *[500] * 5)
    assert web.endpoints[3].outliers is not None
    assert web.endpoints[3].outliers.ejected_until - trio.current_time() == 50


# ---- the task


async def test_the_interval_passes_by_itself_and_not_while_nothing_happens(
    mock_clock: MockClock,
) -> None:
    web = Outliers.of(10, mock_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(web.detector.run)
        await wait_all_tasks_blocked()
        # Nothing but the test waits for a time: with a timer it would be woken.
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        web.answer(3, *[500] * 5)
        for _ in range(3):
            await wait_all_tasks_blocked()
            assert web.ejected == [3]
            mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert web.ejected == []
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        nursery.cancel_scope.cancel()


async def test_what_was_resumed_wakes_it(mock_clock: MockClock) -> None:
    web = Outliers.of(10, mock_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(web.detector.run)
        await wait_all_tasks_blocked()
        web.detector.eject(web.endpoints[0], "test")
        web.detector.resumed()
        await wait_all_tasks_blocked()
        mock_clock.jump(30)
        await wait_all_tasks_blocked()
        assert web.ejected == []
        nursery.cancel_scope.cancel()


def test_configurations_compare_by_value() -> None:
    config = OutlierDetectionConfig()
    assert config == attrs.evolve(config)
