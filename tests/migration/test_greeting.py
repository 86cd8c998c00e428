"""The first word."""

from __future__ import annotations

from tests.live import running, upstream, web
from xproxy.migration.greeting import greet
from xproxy.migration.messages import VERSIONS, pack, unpack


async def test_it_says_what_this_is_and_what_it_has_room_for() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        await live.client()
        hello = greet(live.runtime)
        assert hello.software.startswith("xproxy")
        assert hello.versions == VERSIONS
        assert hello.descriptors > hello.used
        assert not hello.rehearsal
        assert greet(live.runtime, rehearsal=True).rehearsal
        assert unpack(pack(hello)) == hello
