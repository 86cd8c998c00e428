"""What is remembered is bounded, shared, and cannot be seen but by the time it saves."""

from __future__ import annotations

import hpack
import pytest

from tests.codecs.http2.driving import GET
from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS
from xproxy.codecs.http2.memory import Blocks, Memories, Memory
from xproxy.codecs.http2.outgoing import Outgoing
from xproxy.codecs.http2.table import Field
from xproxy.model.limits import DEFAULT_LIMITS, Limits

MOST = 64 * 1024


def memory() -> Memory:
    return Memory(DEFAULT_LIMITS, DEFAULT_HTTP2_LIMITS)


def test_blocks_that_change_nothing_are_read_once() -> None:
    calls: list[list[Field]] = []
    blocks: Blocks[int] = Blocks(lambda fields: calls.append(fields) or len(fields))  # type: ignore[func-returns-value]  # append, then the number
    table = memory().root()
    first = blocks.read(table, b"\x82\x86", 4096, MOST, young=False)
    assert blocks.steady[table, b"\x82\x86"] is first
    assert first.table is table
    assert len(calls) == 1


def test_blocks_that_change_the_table_are_remembered_of_young_connections() -> None:
    mine = memory()
    table = mine.root()
    block = hpack.Encoder().encode(list(GET))
    first = mine.requests.read(table, block, 4096, MOST, young=True)
    again = mine.requests.read(table, block, 4096, MOST, young=True)
    assert first is again
    assert first.table is not table
    old = mine.requests.read(table, block, 4096, MOST, young=False)
    assert old is not first
    assert old.table.entries == first.table.entries


def test_malformed_lists_move_the_table_and_are_not_remembered() -> None:
    mine = memory()
    block = hpack.Encoder().encode([("x-a", "b")])
    read = mine.requests.read(mine.root(), block, 4096, MOST, young=True)
    assert read.parsed is None
    assert read.malformed is not None
    assert read.table.entries == (("x-a", "b"),)
    assert not mine.requests.moving


def test_large_blocks_are_not_remembered() -> None:
    mine = memory()
    block = hpack.Encoder().encode([*GET, ("x", "v" * 3000)], huffman=False)
    mine.requests.read(mine.root(), block, 4096, MOST, young=True)
    assert not mine.requests.moving
    big = Outgoing([("x", "v" * 3000)], -1)
    source = object()
    assert mine.keep(source, big) is big
    assert mine.outgoing.get(source) is None


def test_all_parts_are_bounded() -> None:
    mine = memory()
    table = mine.root()
    for number in range(3000):
        value = str(number).encode()
        block = b"\x82\x86\x84\x01\x01a\x00\x01x" + bytes((len(value),)) + value
        mine.requests.read(table, block, 4096, MOST, young=True)
        block = b"\x82\x86\x84\x01\x01a\x40\x01x" + bytes((len(value),)) + value
        mine.requests.read(table, block, 4096, MOST, young=True)
    assert len(mine.requests.steady) <= 1024
    assert len(mine.requests.moving) <= 512
    outgoing = Outgoing([("a", "b")], -1)
    for number in range(100):
        table = mine.root(number)
        outgoing.remember(table, b"", table)
    assert len(outgoing.blocks) <= 16
    assert mine.root(5) is mine.root(5)
    assert mine.root(99) is not mine.root(99)


def test_what_a_list_means_is_remembered_while_tables_move() -> None:
    mine = memory()
    blocks = mine.requests
    first = blocks.read(mine.root(), b"\x82\x86\x84\x41\x01a", 4096, MOST, young=False)
    second = blocks.read(first.table, b"\x82\x86\x84\x41\x01a", 4096, MOST, young=False)
    assert second.table is not first.table
    assert second.parsed is first.parsed
    assert len(blocks.lists) == 1
    for number in range(2000):
        value = str(number).encode()
        block = b"\x82\x86\x84\x41\x01a\x40\x01x" + bytes((len(value),)) + value
        blocks.read(mine.root(), block, 4096, MOST, young=False)
    assert len(blocks.lists) <= 512


def test_a_list_with_a_secret_is_not_the_list_without() -> None:
    mine = memory()
    head = b"\x82\x86\x84\x41\x01a"
    open_value = mine.requests.read(mine.root(), head + b"\x00\x01x\x01y", 4096, MOST, young=False)
    secret = mine.requests.read(mine.root(), head + b"\x10\x01x\x01y", 4096, MOST, young=False)
    assert open_value.parsed is not None
    assert secret.parsed is not None
    assert type(open_value.parsed.message.headers.pairs[-1][1]) is str
    assert type(secret.parsed.message.headers.pairs[-1][1]) is not str
    assert len(mine.requests.lists) == 1


def test_a_broken_block_is_nobodys_memory() -> None:
    mine = memory()
    with pytest.raises(ConnectionFault):
        mine.trailers.read(mine.root(), b"\xff", 4096, MOST, young=True)


def test_each_set_of_limits_has_its_own() -> None:
    memories = Memories(DEFAULT_HTTP2_LIMITS)
    wide = memories.get(DEFAULT_LIMITS)
    assert memories.get(Limits()) is wide
    assert memories.get(Limits(max_headers=3)) is not wide
    for number in range(100):
        memories.get(Limits(max_headers=number))
