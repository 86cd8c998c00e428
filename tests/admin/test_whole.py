"""Pages of several workers: this one is real, and the others say what the test lets them say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from tests.live import Live, running, web
from xproxy.admin.answers import answer
from xproxy.admin.pages import PAGES, Page
from xproxy.admin.whole import whole_page
from xproxy.model.status import Status
from xproxy.proxy.siblings import Process, Siblings

THIS, OTHER, OLDER = Process(7, 0), Process(7, 1), Process(6, 0)
LISTENER = "listener.edge.downstream_cx_active"


async def page(
    live: Live,
    path: str,
    told: Mapping[Process, bytes],
    silent: Sequence[Process] = (),
    *,
    busy: bool = False,
) -> Page:
    """Return a page, where the supervisor says at once who there is, and what they say."""

    def say(message: Mapping[str, object], _descriptors: Sequence[int]) -> None:
        others = [[one.generation, one.worker] for one in (*told, *silent)]
        quiet = [[one.generation, one.worker] for one in silent]
        answer = {"kind": "others", "id": message["id"], "of": others, "silent": quiet}
        question = siblings._questions[1]
        question.told.update(told)
        siblings.heard({**answer, "busy": busy}, ())

    siblings = Siblings(THIS, say)
    live.runtime.siblings = siblings
    return await whole_page(live.runtime, path)


async def of(live: Live, path: str) -> bytes:
    found = await answer(live.runtime, path)
    assert found is not None
    return found


async def lines(live: Live, path: str, told: Mapping[Process, bytes]) -> list[str]:
    return (await page(live, path, told)).body.decode().splitlines()


async def test_a_lone_worker_shows_its_own_page() -> None:
    async with running(web(1)) as live:
        for path, show in PAGES.items():
            assert await page(live, path, {}) == show(live.runtime)
        live.runtime.siblings = None
        assert await whole_page(live.runtime, "/stats") == PAGES["/stats"](live.runtime)


async def test_numbers_are_added() -> None:
    async with running(web(1)) as live:
        stats = live.stats()
        stats.downstream_rq_total = 5
        stats.downstream_cx_active = 2
        told = {OTHER: await of(live, "/stats")}
        stats.downstream_rq_total = 7
        stats.downstream_cx_active = 1
        shown = await lines(live, "/stats", told)
        assert "listener.edge.downstream_rq_total: 12" in shown
        assert f"{LISTENER}: 3" in shown
        assert f"{LISTENER}{{generation=7,worker=0}}: 1" in shown
        assert f"{LISTENER}{{generation=7,worker=1}}: 2" in shown
        own = live.runtime.metrics.render_text().splitlines()
        names = [line.rpartition(": ")[0] for line in shown if "{" not in line]
        assert names == [line.rpartition(": ")[0] for line in own]
        prometheus = await lines(live, "/stats/prometheus", told)
        assert 'xproxy_listener_downstream_rq_total{listener="edge"} 12.0' in prometheus
        of_other = 'generation="7",listener="edge",worker="1"'
        assert f"xproxy_listener_downstream_cx_active{{{of_other}}} 2.0" in prometheus
        stats.downstream_cx_active = 0


async def test_who_has_not_answered_is_named() -> None:
    async with running(web(1)) as live:
        told = {OTHER: b"of another version"}
        for path in ("/stats", "/clusters", "/ready", "/upgrade", "/config_dump"):
            body = (await page(live, path, told, [OLDER])).body.decode()
            assert "no answer: generation=6,worker=0" in body
            assert "no answer: generation=7,worker=1" in body
        shown = (await page(live, "/stats/prometheus", {}, [OLDER])).body.decode()
        assert 'xproxy_worker_answering{generation="6",worker="0"} 0.0' in shown
        assert 'xproxy_worker_answering{generation="7",worker="0"} 1.0' in shown
        body = (await page(live, "/stats", {}, busy=True)).body.decode()
        assert body.endswith("of generation=7,worker=0 alone: too much is being asked\n")


async def test_readiness_is_that_of_the_one_which_was_asked() -> None:
    async with running(web(1)) as live:
        same = await of(live, "/ready")
        assert await page(live, "/ready", {OTHER: same}) == PAGES["/ready"](live.runtime)
        live.runtime.draining = True
        drains = await of(live, "/ready")
        live.runtime.draining = False
        found = await page(live, "/ready", {OLDER: drains, OTHER: same})
        assert found.body == b"LIVE\ngeneration=6,worker=0: DRAINING\n"
        assert found.status is Status.OK


async def test_configurations_that_differ_are_shown() -> None:
    async with running(web(1)) as live:
        own = PAGES["/config_dump"](live.runtime)
        same = await of(live, "/config_dump")
        assert await page(live, "/config_dump", {OTHER: same}) == own
        live.runtime.generation += 1
        shown = json.loads((await page(live, "/config_dump", {OTHER: same})).body)
        assert shown["generation"] == 2
        assert shown["elsewhere"] == {"generation=7,worker=1": json.loads(own.body)}


async def test_endpoints_that_differ_are_shown() -> None:
    async with running(web(1)) as live:
        endpoint = live.cluster().endpoints[0]
        endpoint.total = 3
        same = await of(live, "/clusters")
        endpoint.failing_until = 1e9
        [first, *more] = await lines(live, "/clusters", {OTHER: same})
        assert first == (
            f"web::{endpoint.address}::weight=1 health=failing"
            " rq_active=0 rq_total=6 rq_error=0 cx_active=0"
        )
        healthy = f"web::{endpoint.address}::weight=1 health=healthy"
        assert more == [f"generation=7,worker=1: {healthy}"]


async def test_takeovers_are_added_and_stages_named() -> None:
    async with running(web(1)) as live:
        stats = live.runtime.takeover.stats
        stats.takeovers = 1
        told = {OLDER: await of(live, "/upgrade")}
        shown = await lines(live, "/upgrade", told)
        assert "takeovers: 2, withdrawn: 0" in shown
        [stage] = [line for line in shown if line.startswith("stage: ")]
        assert shown[-1] == f"stage of generation=6,worker=0: {stage.removeprefix('stage: ')}"


@pytest.mark.parametrize("path", ["/"])
async def test_a_page_that_is_of_nobody_asks_nobody(path: str) -> None:
    async with running(web(1)) as live:
        assert await page(live, path, {}, [OLDER]) == PAGES[path](live.runtime)
