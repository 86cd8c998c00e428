"""What is left in the old process, counted and cut off by name."""

from __future__ import annotations

from tests.live import eventually
from tests.migration.stock import stock
from xproxy.migration.serving import connections, cut_off, relayed, serves, serving
from xproxy.migration.tally import Tally
from xproxy.testing import BROKEN


async def test_it_is_counted_by_protocol_and_cut_off_by_name() -> None:
    async with stock(2, busy=1) as found:
        runtime = found.live.runtime
        silent = await found.live.client("silent")
        await eventually(lambda: len(list(connections(runtime))) == 3, "it was accepted")
        assert serving(runtime) == {"http1": 2, "opening": 1}
        assert relayed(runtime) == {"http1": 0, "opening": 0}
        tally = Tally()
        cut_off(runtime, serving(runtime), tally)
        for client in (*found.clients, silent):
            await client.expect(BROKEN)
        await eventually(lambda: not serves(runtime), "nothing is left")
        assert tally.left == {
            "http1: cut off (takeover.patience)": 2,
            "opening: cut off (takeover.patience)": 1,
        }
        assert tally.status.stats.failed == {"takeover.patience": 3}
