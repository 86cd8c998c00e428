"""Peers that do not acknowledge what was said first, by HTTP/2: the one protocol that has settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import memory_stream
from tests.connection.rpc import outcome
from xproxy.codecs.http2.plugin import PLUGIN, Http2Plugin
from xproxy.codecs.http2.wire import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    frame,
    settings,
)
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import UpstreamRefused
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Duration
from xproxy.model.traits import Role
from xproxy.stream.exchange import Request, Response
from xproxy.testing.proxy import End, facts_of
from xproxy.transport.timers import Timers

GREETING = {Role.SERVER: PREFACE + settings(()), Role.CLIENT: settings(())}
SETTINGS_TIMEOUT = b"\0\0\0\x04"


async def nobody(_request: Request) -> Response:
    raise AssertionError("no request was sent")


@attrs.define(eq=False)
class Accused:
    connection: Multiplexed
    peer: End
    ended: trio.Event
    chain: FilterChain


@asynccontextmanager
async def connected(role: Role, plugin: Http2Plugin = PLUGIN) -> AsyncIterator[Accused]:
    """Give a connection in ``role`` that is running, its timers, and its peer, which has greeted."""
    timers = Timers()
    service = Service(nobody, TimeoutsConfig(), MIB, 100, MIB)
    chain = FilterChain("test", service, DownstreamStats())
    async with memory_stream() as (stream, peer), trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        connection = Multiplexed(
            stream,
            plugin.open(role, DEFAULT_LIMITS),
            role,
            facts_of(plugin.name, plugin.traits),
            chain if role is Role.SERVER else None,
            timers,
        )
        made = Accused(connection, peer, trio.Event(), chain)

        async def run() -> None:
            await connection.run()
            made.ended.set()

        nursery.start_soon(run)
        await peer.send(GREETING[role])
        await wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def received(peer: End) -> bytes:
    """Return all that comes until the connection ends."""
    data = b""
    while piece := await peer.stream.receive_some():
        data += piece
    return data


@pytest.mark.parametrize("role", list(Role))
async def test_a_peer_that_says_nothing_is_told_and_left(
    role: Role, autojump_clock: MockClock
) -> None:
    async with connected(role) as at:
        begin = trio.current_time()
        told = await received(at.peer)
        assert trio.current_time() - begin == pytest.approx(10.0)
        # RFC 9113 §6.5.3: GOAWAY with SETTINGS_TIMEOUT.
        assert SETTINGS_TIMEOUT + b"settings not acknowledged within 10 s" in told
        await at.peer.aclose()
        await at.ended.wait()
        if role is Role.SERVER:
            assert at.chain.stats.downstream_cx_limit == {"settings_timeout": 1}
        else:
            assert isinstance(await outcome(at.connection), UpstreamRefused)


@pytest.mark.parametrize("role", list(Role))
async def test_a_peer_that_acknowledges_stays(role: Role, autojump_clock: MockClock) -> None:
    async with connected(role) as at:
        await trio.sleep(9)
        await at.peer.send(SETTINGS_ACK)
        await trio.sleep(100)
        assert at.connection.serving
        assert at.chain.stats.downstream_cx_limit == {}


async def test_the_time_is_an_option(autojump_clock: MockClock) -> None:
    async with connected(Role.SERVER, Http2Plugin(settings_timeout=Duration(0.0))) as at:
        await trio.sleep(1000)
        assert at.connection.serving
    async with connected(Role.SERVER, Http2Plugin(settings_timeout=Duration(0.5))) as at:
        await trio.sleep(0.6)
        assert not at.connection.serving


async def test_what_was_not_read_is_not_held_against_the_peer(autojump_clock: MockClock) -> None:
    async with connected(Role.SERVER) as at:
        at.connection.wire.read_disabled = True
        await trio.sleep(30)
        assert at.connection.serving
        at.connection.wire.read_disabled = False
        await trio.sleep(1.5)
        assert not at.connection.serving


async def test_requests_of_a_peer_that_exceeds_a_bound_are_given_up(
    autojump_clock: MockClock,
) -> None:
    cancelled = trio.Event()

    async def slow(_request: Request) -> Response:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.set()
            raise
        raise AssertionError

    async with connected(Role.SERVER) as at:
        at.chain.service.handler = slow
        await at.peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x01a"))
        await received(at.peer)
        assert cancelled.is_set()
        assert trio.current_time() < 20
