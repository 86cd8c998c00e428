"""The check by a protocol's own heartbeat."""

from __future__ import annotations

import pytest

from tests.health_checks.kit import REGISTRY, answering_in, bench, scripted
from tests.interop.sofa import sofa_server
from xproxy.health_checks.heartbeat import Heartbeat
from xproxy.upstream.health.api import CheckFailed

BEATING = ("bolt", "dubbo", "http2")


@pytest.mark.parametrize("protocol", BEATING)
async def test_an_answer_is_a_sign_of_life(protocol: str) -> None:
    async with bench(answering_in(protocol)) as (by, up):
        assert await by.check(Heartbeat(codec=protocol), up.port) is None
        assert await by.check(Heartbeat(), up.port, REGISTRY.codec(protocol)) is None
        probe = by.probe(up.port)
        for _ in range(3):
            await Heartbeat(codec=protocol)(probe)
        probe.close()
        assert up.accepted == 3


@pytest.mark.parametrize("protocol", BEATING)
async def test_silence_and_nonsense_are_none(protocol: str) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"):
        async with bench(scripted(answer)) as (by, up):
            with pytest.raises(CheckFailed):
                await by.check(Heartbeat(codec=protocol), up.port)


@pytest.mark.parametrize("codec", ["thrift", "http1"])
async def test_what_has_no_heartbeats_fails(codec: str) -> None:
    async with bench(scripted()) as (by, up):
        with pytest.raises(CheckFailed, match="no heartbeats"):
            await by.check(Heartbeat(codec=codec), up.port)


async def test_whose_heartbeat_must_be_known() -> None:
    async with bench(scripted()) as (by, up):
        with pytest.raises(CheckFailed, match="codec"):
            await by.check(Heartbeat(), up.port)


@pytest.mark.slow
@pytest.mark.tool("node")
@pytest.mark.tool("npm")
async def test_real_providers_answer() -> None:
    """npm's sofa-rpc-node, which serves both."""
    with sofa_server() as ports:
        async with bench(scripted()) as (by, _):
            for protocol, port in ports.items():
                assert await by.check(Heartbeat(codec=protocol), port) is None
