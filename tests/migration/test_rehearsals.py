"""A whole rehearsal: what could move is told by protocol, so is why the rest could not, and nothing moves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.live import GET, Live, answering, eventually, running, upstream, web
from tests.migration.moved import HEAD, OK, exchange, first, moved
from tests.migration.takeover import Takeover, successor, take_over
from tests.secure import ca
from tests.upstream.test_moving import Numbered
from tests.upstream.test_origination import Secure, served
from xproxy.migration.packing import Upstream
from xproxy.migration.rehearsing import rehearse_upstream
from xproxy.testing import Party, play
from xproxy.upstream.moving import settings_of


async def test_a_rehearsal_moves_nothing() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        found = await take_over(old, new, rehearsal=True)
        assert found.given is not None
        assert found.taken is not None
        assert (found.given.gone, found.given.why, found.taken.serve) == (False, "", False)
        assert moved(found) == {"http1": 1, "upstream http1": 1}
        await eventually(new.runtime.ended.is_set, "the new one has ended")
        await exchange(client, server)
        more = await old.client("more")
        await exchange(more, server)


async def test_a_rehearsal_tells_what_would_not_move() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        without = web(up.port).replace("name: edge", "name: elsewhere")
        async with successor(without, old) as new:
            client, server = await first(old, up)
            found = await take_over(old, new, rehearsal=True)
            assert found.given is not None
            assert found.given.why == "http1: there is no listener edge"
            await exchange(client, server)


def untried(found: Takeover) -> dict[str, int]:
    """What the rehearsal could not try; it says so."""
    assert found.given is not None
    tally = dict(found.given.tally.untried)
    assert [one["not_tried"] for one in found.reports if "not_tried" in one] == [tally] * bool(
        tally
    )
    return tally


Serve = Callable[[trio.SocketStream], Awaitable[None]]
KINDS: dict[str, tuple[Callable[[], Serve], dict[str, str], str]] = {
    "serial": (answering, {}, "upstream http1"),
    "shared": (Numbered, {"codec": "http2"}, "upstream http2"),
    "TLS": (
        lambda: Secure(served("127.0.0.1")).serve,
        {"tls": f"{{ca: {ca()}}}"},
        "upstream http1",
    ),
}


@asynccontextmanager
async def idle(kind: str) -> AsyncIterator[tuple[Live, str]]:
    """Run a proxy that has an idle connection to an endpoint of this kind; give it with its configuration."""
    make, fields, _ = KINDS[kind]
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, make())
        text = web(up.port, **fields)
        async with running(text) as live:
            client = await live.client()
            await play(client >> GET, client << re.compile(rb"HTTP/1.1 200 .*", re.DOTALL))
            await eventually(lambda: live.cluster().stats.upstream_rq_active == 0, "it is idle")
            yield live, text
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_idle_connections_to_endpoints_are_tried_and_compared(kind: str) -> None:
    async with idle(kind) as (old, text), successor(text, old) as new:
        found = await take_over(old, new, rehearsal=True)
        assert found.given is not None
        assert (found.given.why, untried(found)) == ("", {})
        assert moved(found) == {"http1": 1, KINDS[kind][2]: 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_would_go_on_with_something_else_is_told(kind: str) -> None:
    async with idle(kind) as (live, _text):
        cluster = live.cluster()
        [given] = cluster.give()
        whole = Upstream(
            cluster="web",
            address=given.endpoint.address,
            settings=settings_of(cluster.config),
            handed=given.handed,
        )
        client = live.registry.codec("http1").traits
        rehearse_upstream(cluster, whole, client)

        def other(**parts: bytes) -> Upstream:
            moment = given.handed.moment
            moment = attrs.evolve(moment, parts=attrs.evolve(moment.parts, **parts))
            return attrs.evolve(whole, handed=attrs.evolve(given.handed, moment=moment))

        with pytest.raises(ValueError, match="not a snapshot"):
            rehearse_upstream(cluster, other(codec=b"nothing"), client)
        match = "tls" if kind == "TLS" else "TLS only on one of both sides"
        with pytest.raises(ValueError, match=match):
            rehearse_upstream(cluster, other(stream=b"nothing"), client)
        given.stay()


async def test_each_idle_one_is_tried_and_what_is_in_use_is_told() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        parties: list[tuple[Party, Party]] = []
        for number in range(4):
            client = await old.client(f"client {number}")
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await server.expect(HEAD)
            parties.append((client, server))
        for client, server in parties[1:]:
            await play(server >> OK, client << OK)
        found = await take_over(old, new, rehearsal=True)
        assert moved(found) == {"http1": 3, "upstream http1": 3}
        assert untried(found) == {
            "http1: a stream is in flight: a request that is being answered": 1,
            "upstream: in use, or being opened": 1,
        }
        client, server = parties[0]
        await play(server >> OK, client << OK)


async def test_what_is_bound_to_a_client_is_told_with_it() -> None:
    async with upstream() as up:
        text = web(up.port, connections="bound")
        async with running(text) as old, successor(text, old) as new:
            client, server = await first(old, up)
            found = await take_over(old, new, rehearsal=True)
            assert (moved(found), untried(found)) == ({"http1": 1, "upstream http1": 1}, {})
            await exchange(client, server)
