"""Streams in flight stay in the old proxy when their connection goes, through everything that there is in between."""

from __future__ import annotations

import re

import trio
from trio.testing import wait_all_tasks_blocked

from tests.http2_peer import Http2Peer
from tests.live import Live, Upstream, eventually, http_response, running, upstream, web
from tests.migration.takeover import Takeover, successor, take_over
from xproxy.admin.upgrade import PLACE
from xproxy.migration.pace import Pace
from xproxy.testing import Party, play

HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK = http_response(b"ok")


async def begun(peer: Http2Peer, up: Upstream) -> tuple[int, Party]:
    """Begin a request; return its stream and the upstream that has it."""
    stream_id = await peer.ask()
    server = Party("upstream", await up.accept())
    await play(server << HEAD)
    return stream_id, server


async def test_a_connection_goes_on_while_its_streams_end_where_they_began() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        peer = Http2Peer(await old.connect(), client=True)
        one, first = await begun(peer, up)
        two, second = await begun(peer, up)
        found: list[Takeover] = []
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                found.append(await take_over(old, new))

            nursery.start_soon(run)
            await moved(new)
            three, third = await begun(peer, up)
            assert new.stats().downstream_rq_total == 1
            assert old.runtime.takeover.stats.relayed == {"http2": 2}
            for server, number in ((second, two), (third, three)):
                await play(server >> OK)
                assert (await peer.whole(number)).body == b"ok"
            await wait_all_tasks_blocked(0.05)
            assert not found  # the old one waits for its last stream
            numbers = old.runtime.takeover.stats
            await eventually(lambda: numbers.relayed_active == {"http2": 1}, "one is left")
            await play(first >> OK)
            assert (await peer.whole(one)).body == b"ok"
        assert found[0].given is not None
        assert (found[0].given.gone, found[0].given.why) == (True, "")
        assert found[0].given.tally.moved["http2"] == 1
        [given] = [one for one in found[0].reports if one["step"] == "given"]
        counts = given["moved"]
        assert isinstance(counts, dict)
        assert counts["http2"] == 1, "it was waited for to be idle, and then went"
        assert given["relayed"] == {"http2": 2}
        assert old.stats().downstream_rq_total == 2
        assert new.stats().downstream_rq_link_lost == {}
        shown = new.runtime.metrics.shown(PLACE)
        assert (shown["relayed"], shown.get("relayed_active")) == ({"http2": 2}, {})


async def test_it_is_tried_with_streams_in_flight() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        peer = Http2Peer(await old.connect(), client=True)
        stream_id, server = await begun(peer, up)
        found = await take_over(old, new, rehearsal=True)
        assert found.given is not None
        assert (found.given.why, dict(found.given.tally.moved)) == ("", {"http2": 1})
        await play(server >> OK)
        assert (await peer.whole(stream_id)).body == b"ok"
        assert old.runtime.takeover.stats.relayed == {}


async def test_streams_whose_patience_is_over_are_cut_off_by_name() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        peer = Http2Peer(await old.connect(), client=True)
        await begun(peer, up)
        found = await take_over(old, new, pace=Pace(patience=1.0, canary=0.0))
        assert found.given is not None
        assert found.given.tally.moved["http2"] == 1
        assert dict(found.given.tally.left) == {"http2 stream: cut off (takeover.patience)": 1}
        assert old.runtime.takeover.stats.failed == {"takeover.patience": 1}


async def test_three_generations_serve_one_connection() -> None:
    async with (
        upstream() as up,
        running(web(up.port)) as first,
        successor(web(up.port), first) as second,
        successor(web(up.port), first) as third,
    ):
        peer = Http2Peer(await first.connect(), client=True)
        streams = [await begun(peer, up)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_over, first, second)
            await moved(second)
            streams.append(await begun(peer, up))
            nursery.start_soon(take_over, second, third)
            await moved(third)
            streams.append(await begun(peer, up))
            for stream_id, server in streams:
                await play(server >> OK)
                assert (await peer.whole(stream_id)).body == b"ok"
        served = [live.stats().downstream_rq_total for live in (first, second, third)]
        assert served == [1, 1, 1]


async def moved(to: Live) -> None:
    """Wait until a proxy has the connection."""
    await eventually(
        lambda: len(to.runtime.listeners["edge"].connections) == 1, "it has the connection"
    )
