"""What a worker tells another for a page."""

from __future__ import annotations

import json

import pytest
import trio

from tests.live import GET, answering, eventually, running, upstream, web
from xproxy.admin import answers
from xproxy.admin.answers import TOLD, answer, say, unpack
from xproxy.migration.counts import ENDPOINT, teller


async def test_the_numbers_of_each_page_and_no_others() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await client.send(GET)
        await eventually(
            lambda: live.stats().downstream_rq_active == 0 < live.stats().downstream_rq_total,
            "served",
        )
        for path in ("/stats", "/stats/prometheus"):
            said = await say(live.runtime, path)
            assert said.counters.of(("listener", "edge"))["downstream_rq_total"] == 1
            assert said.gauges.of(("listener", "edge"))["downstream_cx_active"] == 1
            assert not {place for place, _, _ in said.counters if place[0] == ENDPOINT}
        said = await say(live.runtime, "/clusters")
        assert {place[0] for place, _, _ in said.counters} == {ENDPOINT}
        assert said.text.startswith("web::")
        assert said.text.endswith(" health=healthy\n")
        said = await say(live.runtime, "/config_dump")
        assert len(said.counters) == 0
        assert json.loads(said.text)["generation"] == 1
        nursery.cancel_scope.cancel()


async def test_what_is_packed_is_read_again() -> None:
    async with running(web(1)) as live:
        for path in TOLD:
            packed = await answer(live.runtime, path)
            assert packed is not None
            said, found = await say(live.runtime, path), unpack(packed)
            assert (found.text, found.counters, found.gauges) == (
                said.text,
                said.counters,
                said.gauges,
            )
    with pytest.raises(ValueError, match="admin-answer"):
        unpack(b"no answer")


async def test_no_page_and_too_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(web(1)) as live:
        assert await answer(live.runtime, "/") is None
        monkeypatch.setattr(answers, "MOST_TEXT", 10)
        assert await answer(live.runtime, "/config_dump") is None
        assert await answer(live.runtime, "/ready") is not None


async def test_counters_that_a_newer_process_was_told_are_its_own_to_show() -> None:
    async with running(web(1)) as live:
        live.stats().downstream_rq_total += 5
        live.stats().downstream_rq_active += 1
        counts = teller(live.runtime)
        place = ("listener", "edge")
        before = await say(live.runtime, "/stats")
        assert before.counters.of(place)["downstream_rq_total"] == 5
        counts.absolute()
        told = await say(live.runtime, "/stats")
        assert len(told.counters) == 0
        assert told.gauges.of(place)["downstream_rq_active"] == 1
        counts.lost()
        after = await say(live.runtime, "/stats")
        assert after.counters.of(place)["downstream_rq_total"] == 5
        live.stats().downstream_rq_active -= 1
