"""What can be offered: what it is called, when it can be frozen, and why not."""

from __future__ import annotations

import re

import attrs
import pytest

from tests.live import GET, Live, eventually, http_response, running, upstream, web
from xproxy.connection.standing import Standing
from xproxy.migration.movable import MovableDownstream, MovableUpstream
from xproxy.migration.packing import Downstream, Upstream, unpack
from xproxy.proxy.adopting import Codecs
from xproxy.testing import END, Party, play
from xproxy.upstream.moving import settings_of

HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK = http_response(b"ok")


def item_of(live: Live) -> MovableDownstream:
    active = live.runtime.listeners["edge"]
    [connection] = active.connections.values()
    return MovableDownstream(active, connection, Codecs(live.registry))


async def test_a_client_that_has_said_nothing_is_an_opening() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await eventually(lambda: live.stats().downstream_cx_active == 1, "accepted")
        item = item_of(live)
        assert (item.name, item.gone) == ("opening", False)
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        assert (item.name, item.standing) == ("http1", Standing.BUSY)
        await play(server >> OK, client << OK)
        await eventually(lambda: item.standing is Standing.IDLE, "it is idle")
        item.freeze()
        item.thaw()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        item.keep()
        await client.expect(END)
        await eventually(lambda: item.gone, "it has ended")


async def test_one_with_upstream_connections_of_its_own_goes_with_them() -> None:
    async with upstream() as up, running(web(up.port, connections="bound")) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        item = item_of(live)
        item.clusters = {"web": live.cluster()}
        assert item.standing is Standing.BUSY
        await play(server >> OK, client << OK)
        await eventually(lambda: item.standing is Standing.IDLE, "both are idle")
        state, sockets = item.freeze()
        assert len(sockets) == 2
        found = unpack(state, sockets)
        assert isinstance(found, Downstream)
        [bound] = found.bound
        assert (bound.handed.lane, bound.handed.requests) == ("http1", 1)
        item.thaw()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        # Of a cluster that is none of this configuration's it cannot be said where it belongs.
        item.clusters = {}
        with pytest.raises(ValueError, match="cannot go along"):
            item.freeze()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)


async def test_an_upstream_connection_says_where_it_belongs() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        [given] = live.cluster().give()
        item = MovableUpstream("web", b"settings", given)
        assert item.name == "upstream http1"
        state, sockets = item.freeze()
        found = unpack(state, sockets)
        assert isinstance(found, Upstream)
        assert (found.handed.lane, found.handed.client) == ("http1", "http1")
        assert found.address.port == up.port
        item.keep()
        item.thaw()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)


async def test_settings_are_what_connections_go_by() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        config = live.cluster().config
        assert settings_of(config) == settings_of(attrs.evolve(config, load_balancer="random"))
        assert settings_of(config) != settings_of(attrs.evolve(config, proxy_protocol="v1"))


async def test_an_upstream_connection_that_cannot_be_written_down_serves_on() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        [given] = live.cluster().give()
        handed = attrs.evolve(given.handed, lane=object())  # type: ignore[arg-type]  # what nobody has foreseen
        item = MovableUpstream("web", b"settings", attrs.evolve(given, handed=handed))
        with pytest.raises(ValueError, match="object"):
            item.freeze()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        assert up.accepted == 1
