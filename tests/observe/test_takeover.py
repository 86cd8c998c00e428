from __future__ import annotations

import trio
from trio.testing import MockClock

from xproxy.observe.metrics import StatsRegistry
from xproxy.observe.takeover import MAX_REASON, MAX_REASONS, OTHER, Stage, TakeoverStatus


async def test_the_stages_of_who_gives(autojump_clock: MockClock) -> None:
    status = TakeoverStatus()
    assert _stage(status) == "serving"
    status.end("there was none")
    assert status.stats.withdrawn == 0
    status.begin(gives=True)
    status.meet("xproxy 9")
    assert _stage(status) == "preparing"
    status.enter(Stage.GIVING)
    status.wait({"http1": 2, "http2": 1, "bolt": 0})
    assert status.stats.waiting == {"http1": 2, "http2": 1}
    status.gave("http1", 0.003)
    status.gave("http1", 0.3)
    status.refuse("http2", "no snapshot")
    status.put_off()
    status.relay("http2", 3)
    status.relay("bolt", 0)
    status.relaying({"http2": 2, "bolt": 0})
    assert status.stats.relayed_active == {"http2": 2}
    status.fail("link lost", 2)
    status.wait({})
    await trio.sleep(2)
    status.end()
    status.end("only the first counts")
    stats = status.stats
    assert _stage(status) == "serving"
    assert status.began is not None
    assert status.ended == status.began + 2
    assert (stats.takeovers, stats.withdrawn, status.why) == (1, 0, "")
    assert stats.moved == {"http1": 2}
    assert stats.refused == {"http2": 1}
    assert stats.refusals == {"no snapshot": 1}
    assert (stats.put_off, stats.relayed, stats.relayed_active) == (1, {"http2": 3}, {})
    assert stats.failed == {"link lost": 2}
    assert (stats.pause.count, stats.waiting) == (2, {})


async def test_what_was_given_up_says_why_and_another_one_may_begin() -> None:
    status = TakeoverStatus()
    status.begin(gives=True)
    status.meet("xproxy 9")
    status.wait({"http1": 2})
    status.left_behind(["balancer turn web: it is configured otherwise"])
    status.end("x" * 1000)
    assert status.why == "x" * MAX_REASON
    assert (status.stats.takeovers, status.stats.withdrawn, status.stats.waiting) == (0, 1, {})
    status.begin(gives=True)
    assert (status.peer, status.why, status.ended, status.not_carried) == ("", "", None, [])


async def test_who_takes_counts_nothing_that_the_other_one_counts() -> None:
    status = TakeoverStatus()
    status.begin(gives=False)
    status.meet("xproxy 1")
    status.enter(Stage.TAKING)
    status.took("http1")
    status.took("http1")
    status.older(1)
    status.end()
    assert status.taken == {"http1": 2}
    lines = _shown(status)
    assert lines.pop("generations") == "1"
    assert {line for line in lines.values() if not line.startswith("count=0 ")} == {"0"}


def _shown(status: TakeoverStatus) -> dict[str, str]:
    metrics = StatsRegistry()
    metrics.add("takeover", "", status.stats)
    lines = [line.removeprefix("takeover.") for line in metrics.render_text().splitlines()]
    return dict(line.split(": ", 1) for line in lines)


async def test_metrics_have_them_by_label() -> None:
    status = TakeoverStatus()
    status.wait({"http1": 2})
    status.gave("http2", 0.001)
    assert _shown(status)["waiting.http1"] == "2"
    assert _shown(status)["moved.http2"] == "1"
    metrics = StatsRegistry()
    metrics.add("takeover", "", status.stats)
    lines = metrics.render_prometheus().decode().splitlines()
    assert "# TYPE xproxy_takeover_waiting gauge" in lines
    assert 'xproxy_takeover_waiting{protocol="http1"} 2.0' in lines
    assert 'xproxy_takeover_moved_total{protocol="http2"} 1.0' in lines
    assert 'xproxy_takeover_pause_bucket{le="0.001"} 1.0' in lines


async def test_reasons_and_names_are_bounded() -> None:
    status = TakeoverStatus()
    for number in range(2 * MAX_REASONS):
        status.fail(f"{number}" + "x" * 1000)
        status.left_behind([f"{number}" + "x" * 1000])
    assert len(status.stats.failed) == MAX_REASONS + 1
    assert status.stats.failed[OTHER] == MAX_REASONS
    assert len(status.not_carried) == MAX_REASONS
    assert max(map(len, [*status.stats.failed, *status.not_carried])) == MAX_REASON


def _stage(status: TakeoverStatus) -> str:
    return status.stage.value
