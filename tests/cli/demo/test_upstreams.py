"""The demo's upstreams, byte by byte."""

from __future__ import annotations

import functools

import pytest
import trio

from xproxy.cli.demo.upstreams import echo, native_success, start, web
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.model.address import Address


async def test_web_answers_a_head_that_comes_in_pieces_and_two_at_once() -> None:
    async with trio.open_nursery() as nursery:
        address = await start(nursery, functools.partial(web, "w"))
        assert isinstance(address, Address)
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(b"GET /a HTTP/1.1\r\n")
            await stream.send_all(b"\r\nGET /b HTTP/1.1\r\n\r\n")
            data = b""
            while data.count(b"w got GET") < 2:
                data += await stream.receive_some()
        assert data.index(b"w got GET /a") < data.index(b"w got GET /b")
        nursery.cancel_scope.cancel()


async def test_web_bounds_a_head() -> None:
    async with trio.open_nursery() as nursery:
        address = await start(nursery, functools.partial(web, "w"))
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x" * (64 * 1024 * 1024))
        nursery.cancel_scope.cancel()


async def test_a_client_that_resets_disturbs_nobody() -> None:
    async with trio.open_nursery() as nursery:
        address = await start(nursery, echo)
        stream = await trio.open_tcp_stream(address.host, address.port)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        async with await trio.open_tcp_stream(address.host, address.port) as other:
            await other.send_all(b"x")
            assert await other.receive_some() == b"x"
        nursery.cancel_scope.cancel()


def test_native_success() -> None:
    assert native_success(BOLT) == 0
