"""Requests with something in common go to one endpoint: on real sockets, web requests and calls alike."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio

from tests.live import PATIENCE, answering, running, upstream, web
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def calls(body: bytes) -> Serve:
    """Return what answers each call with ``body``."""

    async def serve(stream: trio.SocketStream) -> None:
        codec = BOLT.open(Role.SERVER, DEFAULT_LIMITS)
        async for data in stream:
            for frame in codec.receive(bytes(data)):
                if isinstance(frame, Head):
                    answer = Head(frame.stream_id, ResponseHead(status=Status.OK), body, end=True)
                    await stream.send_all(codec.send(answer))

    return serve


async def call(stream: trio.SocketStream, number: int, tenant: str) -> bytes:
    """Make a call and return the body of its answer."""
    codec = BOLT.open(Role.CLIENT, DEFAULT_LIMITS)
    head = RequestHead(service="Cart", method="get", headers=Headers([("tenant", tenant)]))
    await stream.send_all(codec.send(Head(number, head, b"?", end=True)))
    with trio.fail_after(PATIENCE):
        async for data in stream:
            for frame in codec.receive(bytes(data)):
                assert isinstance(frame, Head)
                return bytes(frame.data)
    raise AssertionError("no answer")


async def get(stream: trio.SocketStream, *lines: bytes) -> tuple[bytes, bytes]:
    """Make a web request; return the head of its answer and the body, which has one byte."""
    head = b"".join(line + b"\r\n" for line in (b"GET / HTTP/1.1", b"host: a", *lines, b""))
    await stream.send_all(head)
    data = b""
    with trio.fail_after(PATIENCE):
        while not re.search(rb"\r\n\r\n.", data, re.DOTALL):
            data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def keyed(ports: list[int], policy: str, balancer: str) -> str:
    text = web(*ports, load_balancer=balancer)
    return text.replace(
        "    - cluster: web\n", f"    - cluster: web\n      hash_policy: {policy}\n"
    )


@pytest.mark.parametrize("balancer", ["ring_hash", "{name: maglev, table_size: 1031}"])
async def test_calls_of_one_tenant_go_to_one_endpoint(balancer: str) -> None:
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream()) for _ in range(3)]
        text = keyed([up.port for up in ups], "[{header: tenant}]", balancer)
        live = await stack.enter_async_context(running(text))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for index, up in enumerate(ups):
            nursery.start_soon(up.serve, calls(b"%d" % index))
        answers: dict[str, bytes] = {}
        for number in range(60):
            tenant = f"tenant-{number % 20}"
            found = await call(await live.connect(), number, tenant)
            assert answers.setdefault(tenant, found) == found
        assert set(answers.values()) == {b"0", b"1", b"2"}
        nursery.cancel_scope.cancel()


async def test_a_web_client_keeps_to_one_endpoint_by_the_cookie_it_was_given() -> None:
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream()) for _ in range(3)]
        text = keyed(
            [up.port for up in ups], "[{cookie: {name: at, ttl: 1h}}, {query: a}]", "maglev"
        )
        live = await stack.enter_async_context(running(text))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for index, up in enumerate(ups):
            nursery.start_soon(up.serve, answering(b"%d" % index))
        seen = set()
        for _ in range(12):
            head, first = await get(await live.connect())
            found = re.search(rb"set-cookie: (at=\S+); Max-Age=3600; Path=/; HttpOnly", head)
            assert found is not None, head
            seen.add(first)
            for _ in range(2):
                head, again = await get(await live.connect(), b"cookie: x=1; " + found[1])
                assert again == first
                assert b"set-cookie" not in head
        assert len(seen) > 1
        nursery.cancel_scope.cancel()
