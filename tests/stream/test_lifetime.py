from __future__ import annotations

import trio

from xproxy.stream.lifetime import SupportsRun


class Ticker:
    running = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.running = True
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self.running = False


async def test_what_supports_run_is_ready_when_started_and_ends_when_cancelled() -> None:
    ticker = Ticker()
    assert isinstance(ticker, SupportsRun)
    assert not isinstance(object(), SupportsRun)
    async with trio.open_nursery() as nursery:
        await nursery.start(ticker.run)
        assert ticker.running
        nursery.cancel_scope.cancel()
    assert not ticker.running
