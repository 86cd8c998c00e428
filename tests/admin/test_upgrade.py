"""What ``/upgrade`` shows in the process that gives, and in the one that takes."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.live import running, web
from xproxy.admin.pages import upgrade
from xproxy.migration.counts import Counts
from xproxy.observe.takeover import Stage
from xproxy.proxy.runtime import Runtime


def shown(runtime: Runtime) -> list[str]:
    return upgrade(runtime).body.decode().splitlines()


async def test_before_any_takeover() -> None:
    async with running(web(1)) as live:
        assert shown(live.runtime) == [
            "stage: serving",
            "takeovers: 0, withdrawn: 0",
            "older processes with something left: 0",
            "connections moved: 0",
            "offers made again: 0",
            "streams relayed: 0, now: 0",
        ]


async def test_both_show_what_was_moved(autojump_clock: MockClock) -> None:
    async with running(web(1)) as old, running(web(1)) as new:
        ours, theirs = Counts(old.runtime), Counts(new.runtime)
        giver, taker = old.runtime.takeover, new.runtime.takeover
        giver.begin(gives=True)
        giver.meet("xproxy 9")
        taker.begin(gives=False)
        taker.meet("xproxy 8")
        taker.left_behind(["balancer turn web: it is configured otherwise"])
        giver.enter(Stage.GIVING)
        taker.enter(Stage.TAKING)
        taker.older(1)
        theirs.add(ours.absolute())
        giver.wait({"http1": 2, "http2": 1})
        for pause in (0.0004, 0.004, 0.004, 9.0):
            giver.gave("http1", pause)
            taker.took("http1")
        giver.refuse("bolt", "no snapshot")
        giver.relay("http2", 3)
        giver.relaying({"http2": 2, "bolt": 0})
        giver.fail("link lost")
        await trio.sleep(2)
        theirs.add(ours.delta())
        here, there = shown(old.runtime), shown(new.runtime)
        assert here[0] == "stage: giving (xproxy 9), for 2.0 s"
        assert there[0] == "stage: taking (xproxy 8), for 2.0 s"
        assert there[2] == "older processes with something left: 1"
        assert here[3:7] == [
            "connections       moved     refused     waiting  taken here",
            "bolt                  0           1           0           0",
            "http1                 4           0           2           0",
            "http2                 0           0           1           0",
        ]
        assert there[5] == "http1                 4           0           2           4"
        assert there[7:] == [
            "offers made again: 0",
            "streams relayed: 3, now: 2",
            "streams relayed of http2: 3, now: 2",
            "refused: 1 x no snapshot",
            "failed: 1 x link lost",
            "not carried: balancer turn web: it is configured otherwise",
            "pauses: count=4 sum=9.0084 P50<=0.005 P90<=inf P99<=inf",
            "   <= 0.5 ms         1 ####################",
            "     <= 5 ms         2 ########################################",
            "      longer         1 ####################",
        ]
        giver.end()
        taker.end()
        theirs.add(ours.delta())
        theirs.ended()
        taker.older(-1)
        assert shown(new.runtime)[0] == "stage: serving; the last takeover (xproxy 8) took 2.0 s"
        assert "takeovers: 1, withdrawn: 0" in shown(new.runtime)
        assert "streams relayed: 3, now: 0" in shown(new.runtime)


async def test_one_that_was_given_up() -> None:
    async with running(web(1)) as live:
        live.runtime.takeover.begin(gives=True)
        live.runtime.takeover.end("not ready in 60 s")
        found = shown(live.runtime)
        assert found[0] == "stage: serving; the last takeover was given up: not ready in 60 s"
        assert found[1] == "takeovers: 0, withdrawn: 1"
