"""What is written of an accepted connection, and going on with it elsewhere."""

from __future__ import annotations

import socket

import attrs
import pytest

from tests.live import GET, Live, eventually, registry, running, upstream, web
from xproxy.connection.standing import Moment, Standing
from xproxy.connection.wire import Parts
from xproxy.proxy.adopting import (
    Accepted,
    Codecs,
    Described,
    Full,
    adopt,
    adopt_opening,
    aged,
    describe,
)
from xproxy.proxy.connection import Connection
from xproxy.proxy.opening_moment import OpeningMoment

PARTS = Parts(codec=b"", stream=b"", unsent=b"")


async def one(live: Live) -> Connection:
    client = await live.client()
    await client.send(GET[:9])
    await eventually(lambda: bool(live.stats().downstream_rx_bytes_total), "it is here")
    [connection] = live.runtime.listeners["edge"].connections.values()
    return connection


async def test_a_connection_is_described_by_what_it_was_opened_with() -> None:
    async with (
        upstream() as up,
        running(web(up.port, listener="    limits: {max_headers: 7}\n")) as live,
    ):
        connection = await one(live)
        active = live.runtime.listeners["edge"]
        found = describe(connection, active, Codecs(live.registry))
        assert (found.id, found.listener, found.chain, found.codec) == (1, "edge", "main", "http1")
        assert found.limits.max_headers == 7
        assert found.age >= 0
        assert found.peer == connection.stream.peer
        assert active.chains.by_name("main") is active.chains.main
        assert active.chains.by_name("use") is None


async def test_one_whose_protocol_is_not_known_cannot_be_described() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        await live.client()
        await eventually(lambda: live.stats().downstream_cx_active == 1, "accepted")
        active = live.runtime.listeners["edge"]
        [connection] = active.connections.values()
        with pytest.raises(ValueError, match="not known yet"):
            describe(connection, active, Codecs(live.registry))


@pytest.mark.parametrize(
    "wrong",
    [{"claims": True}, {"header": b"PROXY"}, {"stream": b"\x90"}],
    ids=lambda w: next(iter(w)),
)
async def test_an_opening_that_cannot_go_on_leaves_nothing_behind(wrong: dict[str, object]) -> None:
    async with running(web(1)) as live:
        client = await live.client()
        await client.send(GET[:1])
        active = live.runtime.listeners["edge"]
        await eventually(lambda: bool(active.connections), "accepted")
        [connection] = active.connections.values()
        opening = connection.opening
        assert opening is not None
        await eventually(lambda: opening.standing is Standing.IDLE, "it waits")
        moment = opening.freeze()
        opening.thaw()
        assert isinstance(moment, OpeningMoment)
        assert moment.sock is not None
        sock = moment.sock.dup()
        found = Accepted(id=7, age=1.0, listener="edge", address=active.address)
        changed = attrs.evolve(moment, **wrong)  # type: ignore[arg-type]  # what is wrong is of its kind
        with pytest.raises(ValueError, match=r"PROXY|tls"):
            adopt_opening(active, found, changed, sock)
        assert sock.fileno() == -1
        assert len(active.connections) == 1


@pytest.mark.parametrize("wrong", ["chain", "codec", "options", "state", "tls"])
async def test_what_cannot_go_on_leaves_nothing_behind(wrong: str) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        connection = await one(live)
        active, codecs = live.runtime.listeners["edge"], Codecs(live.registry)
        driver = connection.driver
        assert driver is not None
        found, moment = describe(connection, active, codecs), driver.freeze()
        driver.thaw()
        if wrong == "chain":
            found = attrs.evolve(found, chain="none")
        elif wrong == "codec":
            found = attrs.evolve(found, codec="none")
        elif wrong == "options":
            found = attrs.evolve(found, options=(("none", 1),))
        else:
            part = "codec" if wrong == "state" else "stream"
            moment = attrs.evolve(moment, parts=attrs.evolve(moment.parts, **{part: b"x"}))
        ours, theirs = socket.socketpair()
        with theirs:
            before = len(live.runtime.poller)
            with pytest.raises(ValueError, match=r"\w"):
                adopt(active, found, moment, ours, codecs, live.runtime.timers)
            assert theirs.recv(1) == b""
            assert len(live.runtime.poller) == before
        assert len(active.connections) == 1


async def test_one_that_is_dropped_or_has_no_room_is_closed_and_counted_nowhere() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        connection = await one(live)
        active, codecs = live.runtime.listeners["edge"], Codecs(live.registry)
        driver = connection.driver
        assert driver is not None
        found: Described = describe(connection, active, codecs)
        moment = driver.freeze()
        driver.thaw()
        ours, theirs = socket.socketpair()
        with theirs:
            adoption = adopt(active, found, moment, ours, codecs, live.runtime.timers)
            adoption.drop()
            assert theirs.recv(1) == b""
        assert live.stats().downstream_cx_active == 1
        active.stop()
        live.hang_up_all()
        await active.ended.wait()
        ours, theirs = socket.socketpair()
        with theirs, pytest.raises(Full):
            adopt(active, found, moment, ours, codecs, live.runtime.timers)


def test_options_make_the_same_plugin() -> None:
    codecs, others = Codecs(registry()), Codecs(registry())
    for name in ("http1", "http2", "bolt", "dubbo", "thrift"):
        plugin = others.plugin(name, codecs.options(registry().codec(name)))
        assert plugin is others.plugin(name, codecs.options(registry().codec(name)))
    changed = registry().configured("thrift", {"transport": None})
    assert codecs.plugin("thrift", codecs.options(changed)) == changed


@pytest.mark.parametrize(
    "options", [(("strict_target", "yes"),), (("none", 1),), ((("strict_target"), None),)]
)
def test_options_of_another_type_are_refused(options: tuple[tuple[str, object], ...]) -> None:
    with pytest.raises(ValueError, match="not to be had"):
        Codecs(registry()).plugin("bolt", options)


def test_time_passes_on_the_way() -> None:
    moment = aged(Moment(parts=PARTS, left=3.0, patience=1.0), 2.0)
    assert (moment.left, moment.patience) == (1.0, 0.0)
