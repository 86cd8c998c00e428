"""The configuration says how a takeover goes."""

from __future__ import annotations

from tests.live import registry, running, web
from xproxy.migration.pace import DEFAULT_PACE, Pace, pace_of
from xproxy.proxy.runtime import Runtime


async def test_it_goes_by_the_configuration_that_is_in_force() -> None:
    text = web(1) + "takeover: {patience: 7s, canary: 10ms}\n"
    async with running(text) as live:
        assert pace_of(live.runtime) == Pace(patience=7.0, canary=0.01)
        await live.reload(web(1) + "takeover: {patience: 8s, canary: 10ms}\n")
        assert pace_of(live.runtime).patience == 8.0


async def test_before_there_is_any_it_is_the_usual_one() -> None:
    assert pace_of(Runtime(registry())) == DEFAULT_PACE
