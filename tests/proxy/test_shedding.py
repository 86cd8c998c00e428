"""Who is closed when there is no room: who never spoke, then who is idle; nobody who is served."""

from __future__ import annotations

import trio

from tests.live import PATIENCE, eventually, running, upstream, web
from xproxy.proxy.runtime import ClientListeners
from xproxy.proxy.shedding import AT_ONCE, Shedding


async def test_the_silent_go_first_then_the_idle_and_never_the_served() -> None:
    async with upstream() as server, running(web(server.port)) as live:
        room = Shedding(ClientListeners(live.runtime), idle_seconds=0.2)
        served = await live.connect()
        await served.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        slow = await server.accept()
        idle = await live.connect()
        await idle.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        quick = await server.accept()
        await quick.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert await idle.receive_some()
        silent = [await live.connect() for _ in range(AT_ONCE)]
        await eventually(lambda: live.stats().downstream_cx_active == AT_ONCE + 2, "all")

        def went() -> bool:
            room()
            return live.stats().downstream_cx_shed >= AT_ONCE

        await eventually(went, "the silent ones")
        with trio.fail_after(PATIENCE):
            for stream in silent:
                assert await stream.receive_some() == b""

        def went_too() -> bool:
            room()
            return live.stats().downstream_cx_shed > AT_ONCE

        await eventually(went_too, "the idle one")
        with trio.fail_after(PATIENCE):
            assert await idle.receive_some() == b""
        assert not room()
        assert live.stats().downstream_cx_shed == AT_ONCE + 1
        await slow.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        with trio.fail_after(PATIENCE):
            assert (await served.receive_some()).startswith(b"HTTP/1.1 204")


async def test_a_shared_connection_that_is_shed_is_told_goodbye() -> None:
    text = """
listeners: [{name: edge, address: '127.0.0.1:0', codecs: [http2], routes: main}]
routes: {main: [{filters: [{name: direct_response}]}]}
"""
    async with running(text) as live:
        client = await live.connect()
        await client.send_all(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        )
        room = Shedding(ClientListeners(live.runtime), idle_seconds=0.2)
        await eventually(room, "the connection")
        said = b""
        with trio.fail_after(PATIENCE):
            while data := await client.receive_some():
                said += data
        assert b"\x00\x00\x08\x07\x00" in said, "GOAWAY"
