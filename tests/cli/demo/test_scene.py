"""The demo's scene: a route and upstreams for every protocol that is installed."""

from __future__ import annotations

from pathlib import Path

import trio

from xproxy.cli.demo.journal import Journal
from xproxy.cli.demo.scene import message_codecs, set_up
from xproxy.config.schema import FallbackConfig
from xproxy.model.address import Address
from xproxy.registry import default_registry


async def test_every_installed_message_protocol_takes_part(tmp_path: Path) -> None:
    registry = default_registry()
    journal = Journal(tmp_path / "log")
    async with trio.open_nursery() as nursery:
        scene = await set_up(nursery, Address("127.0.0.1", 0), registry, journal)
        nursery.cancel_scope.cancel()
    names = [plugin.name for plugin in message_codecs(registry)]
    assert names[:3] == ["bolt", "dubbo", "thrift"]
    assert set(scene.config.clusters) == {"web", "shop", "converted", "grpc", "raw", *names}
    assert len(scene.calls) == 3 + 1 + 2 + 2 * len(names) + 1
    (listener,) = scene.config.listeners
    assert listener.fallback == FallbackConfig(cluster="raw")
    assert listener.filters == (journal.filter(),)
    for route in scene.config.routes["demo"]:
        assert route.cluster in scene.config.clusters
