"""A worker hands over by its configuration."""

from __future__ import annotations

import trio

from tests.live import GET, PATIENCE, eventually, running, upstream, web
from tests.migration.takeover import pair, successor
from xproxy.migration.handover import HANDOVER

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
