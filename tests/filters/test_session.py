"""Session: a client stays with its endpoint; on real sockets, and what is done where that is gone."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

import pytest
import trio

from tests.live import answering, running, upstream, web
from tests.upstream.test_keyed_requests import get
from xproxy.config.balancing import CookieConfig
from xproxy.filters.session import Session
from xproxy.upstream.endpoint import Unfit
from xproxy.upstream.session import token_of


def sticky(ports: list[int], options: str) -> str:
    text = web(*ports)
    return text.replace(
        "    - cluster: web\n",
        f"    - cluster: web\n      filters: [{{name: session, {options}}}]\n",
    )


@pytest.mark.parametrize("strict", [False, True])
async def test_a_client_stays_with_its_endpoint_while_that_is_fit(strict: bool) -> None:
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream()) for _ in range(3)]
        options = f"cookie: {{name: at, ttl: 1h}}, strict: {str(strict).lower()}"
        live = await stack.enter_async_context(running(sticky([u.port for u in ups], options)))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for index, up in enumerate(ups):
            nursery.start_soon(up.serve, answering(b"%d" % index))
        head, first = await get(await live.connect())
        found = re.search(rb'set-cookie: (at="[0-9a-f]{16}"); Max-Age=3600; Path=/; HttpOnly', head)
        assert found is not None, head
        cookie = b"cookie: " + found[1]
        for _ in range(5):
            head, again = await get(await live.connect(), cookie)
            assert again == first
            assert b"set-cookie" not in head
        gone = live.cluster().endpoints[int(first)]
        assert token_of(gone.address).encode() in found[1]
        gone.unfit = Unfit.FAILED_CHECK
        live.cluster()._choice.marked()
        head, other = await get(await live.connect(), cookie)
        if strict:
            assert head.startswith(b"HTTP/1.1 503 ")
            assert live.cluster().stats.upstream_cx_none_healthy == 1
        else:
            assert other != first
            assert b"set-cookie: at=" in head  # and it stays there from now on
        head, _ = await get(await live.connect(), b"cookie: at=nonsense")
        assert head.startswith(b"HTTP/1.1 503 " if strict else b"HTTP/1.1 200 ")
        nursery.cancel_scope.cancel()


async def test_a_header_will_do() -> None:
    async with upstream() as one, upstream() as two:
        text = sticky([one.port, two.port], "header: x-at")
        async with running(text) as live, trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, answering(b"1"))
            nursery.start_soon(two.serve, answering(b"2"))
            head, first = await get(await live.connect())
            found = re.search(rb"x-at: [0-9a-f]{16}", head)
            assert found is not None, head
            for _ in range(4):
                assert (await get(await live.connect(), found[0]))[1] == first
            nursery.cancel_scope.cancel()


def test_a_cookie_or_a_header() -> None:
    with pytest.raises(ValueError, match="either a cookie or a header"):
        Session(cookie=CookieConfig(name="a"), header="b")
    with pytest.raises(ValueError, match="either a cookie or a header"):
        Session()
