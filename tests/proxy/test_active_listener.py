"""A listener at work: accepting, its limit, stopping, and what is cut off."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    GET,
    PATIENCE,
    Live,
    eventually,
    hang_up,
    http_response,
    refused,
    running,
    upstream,
    web,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Standing
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.proxy.active_listener import ConnectionIds
from xproxy.proxy.connection import Connection
from xproxy.testing import BROKEN, END, Party, play
from xproxy.testing.proxy import facts_of

OK = http_response(b"ok")
CLOSING = http_response(b"ok").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")


def test_connection_ids_are_unique() -> None:
    ids = ConnectionIds()
    assert [next(ids) for _ in range(3)] == [1, 2, 3]
    assert next(ConnectionIds(7)) == 7


def test_ids_go_on_from_those_of_another_process() -> None:
    ids = ConnectionIds()
    ids.after(41)
    assert next(ids) == 42
    ids.after(7)
    assert next(ids) == 43


async def test_above_the_limit_a_connection_is_closed_at_once_and_counted() -> None:
    limit = "    limits: {max_connections: 2}\n"
    async with upstream() as up, running(web(up.port, listener=limit)) as live:
        first, second = await live.client("first"), await live.client("second")
        await eventually(lambda: live.stats().downstream_cx_active == 2, "two connections")
        third = await live.client("third")
        with pytest.raises(AssertionError, match=r"end of the input|broken"):
            await third.expect(b"anything")
        stats = live.stats()
        assert (stats.downstream_cx_overflow, stats.downstream_cx_total) == (1, 3)
        # Room for the next one as soon as one leaves.
        await hang_up(first)
        await eventually(lambda: stats.downstream_cx_active == 1, "one has left")
        fourth = await live.client("fourth")
        await fourth.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, fourth << OK)
        await hang_up(second)
        await live.settled(clients=1)


def stop(live: Live) -> None:
    live.runtime.listeners["edge"].stop()


async def test_stopping_refuses_new_connections_at_once() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        port = live.port()
        stop(live)
        await wait_all_tasks_blocked()
        await refused(port)
        # What is in flight is finished, and the client is told that it was the last.
        await play(server >> OK, client << CLOSING, client << END)
        ended = live.runtime.listeners["edge"].ended
        with trio.fail_after(PATIENCE):
            await ended.wait()


async def test_stopping_closes_what_is_idle() -> None:
    async with upstream() as up, running(web(up.port, timeouts="{linger: 100ms}")) as live:
        fresh, used = await live.client("fresh"), await live.client("used")
        await used.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, used << OK)
        await eventually(lambda: live.stats().downstream_cx_active == 2, "two connections")
        ended = live.runtime.listeners["edge"].ended
        stop(live)
        stop(live)  # twice is as good as once
        await fresh.expect(END)
        await used.expect(END)
        with trio.fail_after(PATIENCE):
            await ended.wait()


async def test_a_connection_without_a_word_has_a_moment_for_its_request() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await eventually(lambda: live.stats().downstream_cx_active == 1, "accepted")
        await wait_all_tasks_blocked()
        stop(live)
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << CLOSING, client << END)


async def test_cutting_resets_what_is_in_flight_and_says_how_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        # To a client of HTTP/1.0 a response whose length is not known ends with the connection.
        await client.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n")
        server = Party("upstream", await up.accept())
        begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        await play(server << HEAD, server >> begun, client << HEAD, client << b"half")
        active = live.runtime.listeners["edge"]
        active.stop()
        active.cut()
        # Never a clean end: half a response must not look like a whole one.
        await client.expect(BROKEN)
        with trio.fail_after(PATIENCE):
            await active.ended.wait()
        assert "1 connections cut off at the drain deadline (timeouts.drain)" in caplog.text


async def test_cutting_nothing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        active = live.runtime.listeners["edge"]
        active.stop()
        with trio.fail_after(PATIENCE):
            await active.ended.wait()
        active.cut()
        assert "cut off" not in caplog.text


async def test_who_connects_while_it_pauses_is_served_afterwards() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        active = live.runtime.listeners["edge"]
        server: Party | None = None
        for _ in range(2):
            active.pause()
            active.pause()
            await wait_all_tasks_blocked()
            accepted = live.stats().downstream_cx_total
            client = await live.client()
            await client.send(GET)
            await wait_all_tasks_blocked(0.01)
            assert live.stats().downstream_cx_total == accepted
            active.resume()
            active.resume()
            server = server or Party("upstream", await up.accept())  # it is pooled
            await play(server << HEAD, server >> OK, client << OK)
            await hang_up(client)
        active.pause()
        await wait_all_tasks_blocked()
        waiting = await live.client()
        active.stop()  # it serves whoever has connected
        await waiting.send(GET)
        assert server is not None
        await play(server << HEAD, server >> OK, waiting << CLOSING, waiting << END)


async def test_a_connection_goes_on_at_another_listener_under_its_id() -> None:
    async with upstream() as up, running(web(up.port)) as old, running(web(up.port)) as new:
        client = await old.client()
        await client.send(GET[:7])
        await eventually(lambda: old.stats().downstream_rx_bytes_total == 7, "it is here")
        [connection] = old.runtime.listeners["edge"].connections.values()
        driver = connection.driver
        assert driver is not None
        await eventually(lambda: driver.standing is Standing.IDLE, "it waits for more")
        moment = driver.freeze()
        assert moment.sock is not None

        async def drive(adopted: Connection) -> Awaitable[None]:
            codec = HTTP1.restore(moment.parts.codec, Role.SERVER, DEFAULT_LIMITS)
            facts = facts_of(HTTP1.name, HTTP1.traits)
            port = active.chains.main
            adopted.driver = SerialDownstream(
                adopted.stream, codec, facts, port, new.runtime.timers, moment=moment
            )
            return adopted.driver.run(b"")

        active = new.runtime.listeners["edge"]
        assert active.adopt(moment.sock.dup(), 4711, drive)
        driver.leave()
        await eventually(lambda: old.stats().downstream_cx_active == 0, "it has left")
        await client.send(GET[7:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        assert list(active.connections) == [4711]
        assert (new.stats().downstream_cx_active, new.stats().downstream_cx_total) == (1, 0)
        await hang_up(client)
        await new.settled()


async def test_one_that_has_stopped_adopts_nobody() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        active = live.runtime.listeners["edge"]
        active.stop()
        with trio.fail_after(PATIENCE):
            await active.ended.wait()
        ours, theirs = socket.socketpair()
        with theirs:

            async def drive(_adopted: Connection) -> None:
                raise AssertionError("nobody is served")

            assert not active.adopt(ours, 7, drive)
            assert theirs.recv(1) == b""
        assert (live.stats().downstream_cx_active, active.connections) == (0, {})
