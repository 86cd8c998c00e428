"""The first word."""

from __future__ import annotations

from tests.http2_peer import Http2Peer
from tests.live import eventually, registry, running, upstream, web
from tests.migration.stock import stock
from xproxy.codecs.api import SupportsSnapshot, supports
from xproxy.codecs.packing import open_state
from xproxy.migration.greeting import greet, state_versions, to_come
from xproxy.migration.messages import TLS, VERSIONS, pack, unpack
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.registry import CODECS


async def test_it_says_what_this_is_and_what_it_has_room_for() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        await live.client()
        hello = greet(live.runtime)
        assert hello.software.startswith("xproxy")
        assert hello.versions == VERSIONS
        assert hello.descriptors > hello.used
        assert not hello.rehearsal
        assert greet(live.runtime, rehearsal=True).rehearsal
        assert unpack(pack(hello)) == hello


async def test_it_says_how_many_descriptors_would_come() -> None:
    async with stock(2, busy=1) as found:
        silent = await found.live.client("silent")
        del silent
        await eventually(lambda: found.live.stats().downstream_cx_active == 3, "it is there")
        assert to_come(found.live.runtime) == 5
        peer = Http2Peer(await found.live.connect(), client=True)
        await peer.ask()
        # Its own, and a link to the stream that is in flight: its endpoint is asked over one that was idle.
        await eventually(lambda: to_come(found.live.runtime) == 7, "a stream is in flight")


def test_codecs_say_what_they_write_and_what_is_not_loaded_says_nothing() -> None:
    plugins = registry()
    assert {one.reads for one in state_versions(plugins) if one.name != TLS} == {()}
    for name in plugins.names(CODECS):
        plugins.codec(name)
    said = {one.name: one for one in state_versions(plugins)}
    for name in ("http1", "http2", "thrift", "bolt", "dubbo", "opaque"):
        plugin = plugins.codec(name)
        for role in Role:
            codec = plugin.open(role, DEFAULT_LIMITS)
            assert supports(codec, SupportsSnapshot)
            written, _ = open_state(name, codec.snapshot())
            assert said[name].writes == written == said[name].reads[-1]
    assert said[TLS].writes == 2
