"""A worker hands over by its configuration."""

from __future__ import annotations

import trio

from tests.live import GET, PATIENCE, eventually, http_response, running, upstream, web
from tests.migration.takeover import pair, successor
from tests.migration.test_taker import HEAD
from xproxy.migration.handover import HANDOVER
from xproxy.testing import Party, play

OK = http_response(b"ok")
TAKEOVER = "takeover: {patience: 7s, canary: 10ms}\n"


async def test_it_goes_by_the_configuration_and_says_the_steps() -> None:
    async with upstream() as up:
        text = web(up.port) + TAKEOVER
        async with running(text) as old, successor(text, old) as new:
            client = await old.client()
            await client.send(GET[:5])
            await eventually(lambda: bool(old.stats().downstream_rx_bytes_total), "it is here")
            said: list[str] = []

            def report(found: object) -> None:
                assert isinstance(found, dict)
                said.append(found["step"])

            ours, theirs = pair()
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(HANDOVER.give, old.runtime, ours, report)
                    nursery.start_soon(HANDOVER.take, new.runtime, theirs, report)
            assert sorted(set(said)) == ["accepting", "alone", "given", "giving", "gone", "ready"]
            assert new.stats().downstream_cx_active == 1


async def test_what_a_withdrawn_takeover_has_taken_goes_back() -> None:
    async with upstream() as up:
        text = web(up.port) + TAKEOVER
        async with running(text) as old, successor(text, old) as new:
            client, busy = await old.client("client"), await old.client("busy")
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> OK, client << OK)
            await busy.send(GET)
            await play(server << HEAD)
            ours, theirs = pair()
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(HANDOVER.take, new.runtime, theirs, ignore)
                    async with trio.open_nursery() as giving:
                        giving.start_soon(HANDOVER.give, old.runtime, ours, ignore)
                        await eventually(lambda: new.stats().downstream_cx_active == 1, "it moved")
                        giving.cancel_scope.cancel()
                assert old.runtime.accepting.is_set()
                assert not new.runtime.accepting.is_set()
                assert not new.runtime.ended.is_set(), "it goes on with what it has"
                await client.send(GET)
                own = Party("upstream", await up.accept())
                await play(own << HEAD, own >> OK, client << OK)
                ours, theirs = pair()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(HANDOVER.take, old.runtime, theirs, ignore)
                    nursery.start_soon(HANDOVER.give, new.runtime, ours, ignore)
                await new.runtime.ended.wait()
            assert old.stats().downstream_cx_active == 2
            await play(server >> OK, busy << OK)
            shown = old.runtime.metrics.shown(("listener", "edge"))
            assert (shown["downstream_cx_total"], shown["downstream_rq_total"]) == (2, 3)


def ignore(_report: object) -> None:
    """Nobody asks."""
