"""The check by bytes: blocks in order, with anything in between."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.health_checks.kit import bench, scripted
from tests.live import refusing_port
from xproxy.health_checks.tcp import MOST_BYTES, Tcp, found_in_order, payload
from xproxy.model.errors import ConnectFailed
from xproxy.upstream.health.api import CheckFailed

BLOCKS = st.lists(st.binary(max_size=4), max_size=5)


def test_texts_and_hexadecimal_digits() -> None:
    assert payload("hex:00 0aFF") == b"\0\n\xff"
    assert payload("PING\n") == b"PING\n"


@pytest.mark.parametrize("text", ["hex:0", "hex:zz"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        Tcp(send=text)
    with pytest.raises(ValueError, match="hexadecimal"):
        Tcp(receive=("a", text))


@given(BLOCKS, st.lists(st.binary(max_size=3), min_size=6, max_size=6))
def test_blocks_are_found_whatever_stands_between(
    blocks: Sequence[bytes], between: Sequence[bytes]
) -> None:
    data = b"".join(between[at] + block for at, block in enumerate(blocks)) + between[-1]
    assert found_in_order(blocks, data)


@given(BLOCKS, st.binary(max_size=12))
def test_only_in_order(blocks: Sequence[bytes], data: bytes) -> None:
    def plainly(left: Sequence[bytes], at: int) -> bool:
        if not left:
            return True
        places = [n for n in range(at, len(data) + 1) if data[n:].startswith(left[0])]
        return any(plainly(left[1:], n + len(left[0])) for n in places)

    assert found_in_order(blocks, data) is plainly(blocks, 0)


async def test_to_connect_is_enough_where_nothing_is_said() -> None:
    async with bench(scripted()) as (by, up):
        assert await by.check(Tcp(), up.port) is None


async def test_who_does_not_listen_is_a_failure() -> None:
    async with bench(scripted()) as (by, _):
        with pytest.raises(ConnectFailed):
            await by.check(Tcp(), refusing_port())


async def test_what_is_sent_and_what_comes_in_pieces() -> None:
    heard: list[bytes] = []

    async with bench(scripted(b"+OK, rea", hear=heard)) as (by, up):
        with pytest.raises(CheckFailed, match="closed"):
            await by.check(Tcp(send="hex:01", receive=("OK", "ready")), up.port)
        assert heard == [b"\1"]
    async with bench(scripted(b"+OK, ready\r\n")) as (by, up):
        assert await by.check(Tcp(send="x", receive=("OK", "ready")), up.port) is None
        with pytest.raises(CheckFailed):
            await by.check(Tcp(send="x", receive=("ready", "OK")), up.port)


async def test_an_answer_without_end_is_a_failure() -> None:
    async with bench(scripted(bytes(2 * MOST_BYTES))) as (by, up):
        with pytest.raises(CheckFailed, match="without what is expected"):
            await by.check(Tcp(send="x", receive=("OK",)), up.port)
