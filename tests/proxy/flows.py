"""Exchanges that go from one proxy to another one in this process, as between two processes."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Awaitable
from typing import Final

import attrs

from tests.live import Live, eventually
from xproxy.codecs.api import RestoringPlugin
from xproxy.connection.flowing import FlowingExchange
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Moment, Standing
from xproxy.model.traits import Role
from xproxy.proxy.connection import Connection
from xproxy.proxy.flowing import Revival
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.listener import address_of
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.stream import resume

_ids: Final = itertools.count(1_000_000)
_LEAVES: Final = (bytes, str, int, float, bool, type(None), socket.socket)


def check_plain(value: object) -> None:
    """Fail unless all of it can be written down: attrs classes, tuples, plain values and sockets."""
    kind = type(value)
    if attrs.has(kind):
        for field in attrs.fields(kind):
            check_plain(getattr(value, field.name))
    elif type(value) is tuple:
        for item in value:
            check_plain(item)
    else:
        assert type(value) in _LEAVES, f"{value!r} is not plain"


def driver_of(live: Live) -> SerialDownstream:
    """Return what drives the one connection of a listener."""
    [connection] = live.runtime.listeners["edge"].connections.values()
    driver = connection.driver
    assert isinstance(driver, SerialDownstream)
    return driver


def flows(live: Live) -> bool:
    """Whether there is one connection, which can move with its exchange."""
    drivers = [one.driver for one in live.runtime.listeners["edge"].connections.values()]
    return [driver and driver.standing for driver in drivers] == [Standing.FLOWING]


async def flowing(live: Live) -> SerialDownstream:
    """Wait until the one connection can move with its exchange."""
    await eventually(lambda: flows(live), "it flows")
    return driver_of(live)


def facts_in(live: Live, facts: ConnectionFacts) -> ConnectionFacts:
    """Return the facts of a connection as another proxy has them."""
    share = live.runtime.poller.held.share(None)
    return attrs.evolve(facts, share=share, downstream=None)


def receive(new: Live, moment: Moment, facts: ConnectionFacts) -> None:
    """Go on with a connection that flows. Raises ValueError, and leaves it alone then."""
    told = moment.exchange
    assert isinstance(told, FlowingExchange)
    check_plain(moment)
    active = new.runtime.listeners["edge"]
    snapshot = new.runtime.snapshot
    assert snapshot is not None
    facts = facts_in(new, facts)
    plugin = active.plan.opaque if facts.traits.headless else new.registry.codec(facts.protocol)
    assert isinstance(plugin, RestoringPlugin)
    codec = plugin.restore(moment.parts.codec, Role.SERVER, active.plan.limits)
    revival = Revival.find(snapshot, active.plan, facts, told)
    assert moment.sock is not None
    assert told.upstream.sock is not None
    copy = told.upstream.sock.dup()
    polled = new.runtime.poller.add(copy, address_of(copy, peer=True), address_of(copy))
    polled.upstream = True
    upstream: ByteStream = polled
    if told.upstream.parts.stream:
        upstream = resume(polled, told.upstream.parts.stream)

    async def drive(adopted: Connection) -> Awaitable[None]:
        stream: ByteStream = adopted.stream
        if moment.parts.stream:
            stream = adopted.stream = resume(stream, moment.parts.stream)
        stream.half_close = facts.traits.half_close
        driver = SerialDownstream(
            stream, codec, facts, active.chains.main, new.runtime.timers, moment=moment
        )
        adopted.driver = driver
        revival.begin(driver, upstream)
        return driver.run(b"")

    # Under an id of its own: it may come back before the task that it left has ended.
    assert active.adopt(moment.sock.dup(), next(_ids), drive)


def move(old: Live, new: Live) -> None:
    """Move the one connection, which flows, at once."""
    driver = driver_of(old)
    moment = driver.freeze()
    receive(new, moment, driver.facts)
    driver.leave()
