"""A service knows when its last stream has gone."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import Service
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import Request, Response, local_response


async def handle(_request: Request) -> Response:
    return local_response(ResponseHead(status=Status.OK))


async def test_it_is_idle_when_the_last_stream_has_left(autojump_clock: MockClock) -> None:
    service = Service(handle, TimeoutsConfig(), 1, 1, 1)
    await service.wait_idle()
    service.streams = 2
    idle = False

    async def wait() -> None:
        nonlocal idle
        await service.wait_idle()
        idle = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        service.streams -= 1
        if service.drained is not None and not service.streams:
            service.emptied()
        await wait_all_tasks_blocked()
        assert not idle
        service.streams -= 1
        if service.drained is not None and not service.streams:
            service.emptied()
    assert idle
