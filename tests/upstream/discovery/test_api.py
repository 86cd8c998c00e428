"""A discovery of one's own: an attrs class and an async generator, in a few lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.live import answering, eventually, registry, running, upstream, web
from tests.upstream.discovery.kit import get
from xproxy.model.errors import PluginError
from xproxy.registry import DISCOVERY, Entry
from xproxy.upstream.discovery.api import (
    Discovery,
    SupportsDestination,
    SupportsEndpointsCheck,
)

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "plugins" / "xproxy-sample" / "xproxy_sample" / "discovery.py"


def test_the_built_in_ones_come_in_through_the_same_seam() -> None:
    found = registry()
    shapes = {}
    for name in ("dns", "file", "original_destination"):
        cls = found.discovery(name)
        shapes[name] = (
            issubclass(cls, Discovery),
            hasattr(cls, "destination"),
            issubclass(cls, SupportsEndpointsCheck),
        )
    assert shapes == {
        "dns": (True, False, True),
        "file": (True, False, True),
        "original_destination": (False, True, True),
    }
    assert {entry.name for entry in found.entries(DISCOVERY)} >= set(shapes)


def test_a_destination_has_its_bounds() -> None:
    assert isinstance(registry().discovery("original_destination")(), SupportsDestination)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("xproxy.upstream.endpoint:Endpoint", "it has neither discover"),
        ("xproxy.upstream.membership:Membership", "it is no attrs class"),
    ],
)
def test_what_finds_nothing_is_refused(value: str, said: str) -> None:
    found = registry(Entry.parse(DISCOVERY, "odd", value, "acme", "1"))
    with pytest.raises(PluginError, match=said):
        found.discovery("odd")


def test_the_sample_has_at_most_forty_lines() -> None:
    assert len([line for line in SAMPLE.read_text("utf-8").splitlines() if line.strip()]) <= 40


async def test_the_sample_asks_a_command_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "endpoints"

    def say(text: str) -> None:
        new = tmp_path / "new"
        new.write_text(text)
        os.replace(new, path)

    command = Entry.parse(DISCOVERY, "command", "xproxy_sample.discovery:Command", "sample", "0")
    async with upstream() as one, upstream() as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.serve, answering(b"1"))
        nursery.start_soon(two.serve, answering(b"2"))
        say(f"127.0.0.1:{one.port}\n")
        type_ = f"{{name: command, command: [cat, '{path}'], seconds: 0.1}}"
        text = web(type=type_).replace("    endpoints: []\n", "")
        # It may be installed: then the registry has it already.
        plugins = registry() if "command" in registry().names(DISCOVERY) else registry(command)
        async with running(text, plugins=plugins) as live:
            client, stats = await live.client(), live.cluster().stats
            assert await get(client) == b"200 1"
            say("nonsense")
            await eventually(lambda: stats.discovery_failed > 0, "it was no address")
            path.unlink()
            failed = stats.discovery_failed
            await eventually(lambda: stats.discovery_failed > failed, "the command has failed")
            assert await get(client) == b"200 1"
            say(f"127.0.0.1:{two.port}\n")
            await eventually(lambda: stats.discovery_updates == 2, "the other endpoint")
            assert await get(client) == b"200 2"
        nursery.cancel_scope.cancel()
