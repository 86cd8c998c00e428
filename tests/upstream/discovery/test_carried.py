"""What a cluster has found goes along to the process that takes over, whole; other people's bytes do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.live import (
    Live,
    answering,
    eventually,
    refusing_port,
    registry,
    running,
    upstream,
    web,
)
from tests.upstream.discovery.kit import get
from tests.upstream.discovery.test_endpoint_file import FULL
from xproxy.config.load import load_text
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.stream.carrying import SupportsCarry
from xproxy.upstream.discovery.carried import FoundEndpoints
from xproxy.upstream.endpoint import Unfit

TEXT = web(1, type="dns").replace("127.0.0.1:1", "a.test:80")


def config(text: str = TEXT) -> ClusterConfig:
    return load_text(text, "x", registry()).clusters["web"]


CONFIG = config()


def part_of(found: Sequence[EndpointConfig] | None, learnt: list[EndpointConfig]) -> FoundEndpoints:
    return FoundEndpoints("web", CONFIG, lambda: found, learnt.extend)


def test_every_field_goes_along() -> None:
    found = [
        EndpointConfig(address=Address("10.0.0.1", 80)),
        attrs.evolve(FULL, dial=Address("::1", 90)),
        EndpointConfig(address=Address("", 0, "/run/x"), health="unhealthy"),
    ]
    learnt: list[EndpointConfig] = []
    part = part_of(found, learnt)
    part.resume(part.carry())
    assert learnt == found
    assert part_of(None, []).carry() == b"", "there was no answer yet"
    learnt.clear()
    part.resume(part_of([], []).carry())
    assert learnt == []


def test_it_goes_along_only_where_the_same_is_asked() -> None:
    one = FoundEndpoints("web", CONFIG, lambda: (), print).carried_as()
    other = config(TEXT.replace("type: dns", "type: {name: dns, mode: logical}"))
    two = FoundEndpoints("web", other, lambda: (), print).carried_as()
    assert (one.kind, one.version) == ("found endpoints", 1)
    assert one.settings != two.settings


@pytest.mark.parametrize(
    "endpoint",
    [
        {"address": "nowhere"},
        {"address": "10.0.0.1:80", "weight": 0},
        {"address": "10.0.0.1:80", "priority": 128},
        {"address": "10.0.0.1:80", "health": "well"},
        {"address": "10.0.0.1:80", "dial": "x"},
        {},
    ],
)
def test_what_is_no_endpoint_changes_nothing(endpoint: dict[str, object]) -> None:
    learnt: list[EndpointConfig] = []
    endpoints = [{"address": "10.0.0.9:80"}, endpoint]
    data = msgpack.packb(["found endpoints", 1, {"endpoints": endpoints}])
    with pytest.raises(ValueError):
        part_of((), learnt).resume(data)
    assert learnt == []


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(data: bytes) -> None:
    learnt: list[EndpointConfig] = []
    with pytest.raises(ValueError):
        part_of((), learnt).resume(data)
    assert learnt == []


def the_part(live: Live) -> SupportsCarry:
    """Return what is carried before all else."""
    return next(iter(live.cluster().carrying()))


async def test_a_new_process_serves_at_once_with_what_the_old_one_knew(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    text = web(type=f"{{name: file, path: {path}}}").replace("    endpoints: []\n", "")
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering(b"ok"))
        path.write_text(f"- 127.0.0.1:{up.port}\n")
        async with running(text) as old, running(text) as new:
            assert the_part(old).carry() == b"", "nobody has used it yet"
            client = await old.client()
            assert await get(client) == b"200 ok"
            path.unlink()
            parts = list(new.cluster().carrying())
            the_part(new).resume(the_part(old).carry())
            assert len(new.cluster().endpoints) == 1
            assert await get(await new.client()) == b"200 ok"
            await eventually(
                lambda: new.cluster().stats.discovery_failed > 0, "it looks for itself, too"
            )
            assert len(new.cluster().endpoints) == 1
            marks = next(part for part in parts if part.carried_as().kind == "endpoint marks")
            new.cluster().endpoints[0].failures_in_a_row = 3
            assert marks.carry(), "marks are of the endpoints of the moment"
        nursery.cancel_scope.cancel()


async def test_health_goes_along_to_who_is_found_only_there(tmp_path: Path) -> None:
    """It is told to the endpoints of the moment: before them there were none."""
    path = tmp_path / "endpoints.yaml"
    checks = (
        "[{timeout: 30s, interval: 1h, unhealthy_threshold: 1, healthy_threshold: 1, check: tcp}]"
    )
    text = web(type=f"{{name: file, path: {path}}}", health_checks=checks)
    text = text.replace("    endpoints: []\n", "")
    async with upstream() as up:
        path.write_text(f"- 127.0.0.1:{up.port}\n- 127.0.0.1:{refusing_port()}\n")
        async with running(text) as old:

            def unfit() -> list[int]:
                return [one.unfit for one in old.cluster().endpoints]

            await eventually(lambda: unfit() == [0, Unfit.FAILED_CHECK], "both are checked")
            carried = [part.carry() for part in old.cluster().carrying()]
            path.unlink()
            async with running(text) as new:
                assert not new.cluster().endpoints
                for part, data in zip([*new.cluster().carrying()], carried, strict=True):
                    if data:
                        part.resume(data)
                assert [one.unfit for one in new.cluster().endpoints] == unfit()
                assert new.cluster().stats.membership_healthy == 1
