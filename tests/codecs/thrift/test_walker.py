"""Where a struct of the binary protocol ends: PyPI's thrift writes it, the walker finds it in any cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thrift.Thrift import TType  # type: ignore[import-untyped]  # ships no types

from tests.codecs.thrift.values import STRUCTS, Value, write
from tests.effort import rounds
from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.compact import CompactWalker
from xproxy.codecs.thrift.encoding import MAX_DEPTH, Walker
from xproxy.codecs.thrift.json_text import JsonWalker
from xproxy.codecs.thrift.walker import BinaryWalker

LIMIT = 1 << 24


def end_of(data: bytes, limit: int = LIMIT) -> int | None:
    walker = BinaryWalker(0, limit)
    return walker.pos if walker.walk(data, 0, len(data)) else None


@settings(max_examples=80, deadline=None)
@given(STRUCTS, st.binary(max_size=20))
def test_the_end_is_where_the_writer_ended(fields: list[tuple[int, Value]], rest: bytes) -> None:
    data = write(fields, "binary")
    assert end_of(data + rest) == len(data)
    walker = BinaryWalker(0, LIMIT)
    held = bytearray()
    for index, byte in enumerate(data):
        assert not walker.walk(held, 0, len(held))
        assert index < walker.need <= len(data)
        held.append(byte)
    assert walker.walk(held, 0, len(held))
    assert walker.pos == len(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_have_one_verdict(data: bytes, cut: int) -> None:
    def verdict(pieces: list[bytes]) -> object:
        walker, held = BinaryWalker(0, 50), bytearray()
        try:
            for piece in pieces:
                held += piece
                if walker.walk(held, 0, len(held)):
                    return walker.pos
        except Malformed:
            return "malformed"
        return None

    whole = verdict([data])
    assert verdict([data[:cut], data[cut:]]) == whole
    assert verdict([data[i : i + 1] for i in range(len(data))]) == whole


def nested(depth: int) -> bytes:
    return b"\x0c\0\1" * (depth - 1) + b"\0" * depth


def test_depth_is_counted() -> None:
    assert end_of(nested(MAX_DEPTH)) == len(nested(MAX_DEPTH))
    with pytest.raises(Malformed, match="deeper than 64"):
        end_of(nested(MAX_DEPTH + 1))
    lists = b"\x0f\0\1" + b"\x0f\0\0\0\1" * 100_000
    with pytest.raises(Malformed, match="deeper"):
        end_of(lists)


@pytest.mark.parametrize(
    "data",
    [
        "01 0001 00",  # void is no value
        "05 0001 00",
        "ff",
        "0b 0001 ffffffff",  # a string of -1 bytes
        "0f 0001 08 ffffffff",
        "0f 0001 01 00000001 00",
        "0d 0001 08 63 00000001",
        "0f 0001 0c 7fffffff",  # more elements than bytes
        "0b 0001 7fffffff",
        "0d 0001 0b 08 7fffffff",
    ],
)
def test_what_is_no_struct(data: str) -> None:
    with pytest.raises(Malformed):
        end_of(bytes.fromhex(data))


def test_an_empty_container_needs_no_types() -> None:
    assert end_of(bytes.fromhex("0d 0001 00 00 00000000 0f 0002 00 00000000 00")) == 18


def test_lengths_are_checked_before_their_bytes_come() -> None:
    assert end_of(bytes.fromhex("0b 0001 0000000a"), limit=18) is None
    with pytest.raises(Malformed, match="limit 17"):
        end_of(bytes.fromhex("0b 0001 0000000b"), limit=17)
    with pytest.raises(Malformed, match="limit 7"):
        end_of(bytes.fromhex("0b 0001 00000000"), limit=7)


def test_a_large_body_is_skipped_and_not_looked_at() -> None:
    data = bytes.fromhex("0f 0001 0a 00080000") + bytes(8 << 19) + b"\0"
    assert end_of(data) == len(data)
    bound = 2e5  # it has 524,288 values
    assert rounds(lambda: end_of(data), bound) < bound


def test_a_walk_goes_on_where_it_was() -> None:
    element = b"\x0b\0\1\0\0\0\1x\0"
    data = b"\x0f\0\1\x0c\0\0\x4e\x20" + element * 20_000 + b"\0"

    def walk() -> None:
        walker, held, walks = BinaryWalker(0, LIMIT), bytearray(), 0
        for at in range(0, len(data), 10):
            held += data[at : at + 10]
            walks += walker.walk(held, 0, len(held))
        assert walks == 1

    bound = 6e7
    assert rounds(walk, bound) < bound, "18,001 walks from the start would take minutes"


SMALL: Final = st.sampled_from(
    [
        (TType.STRUCT, []),
        (TType.STRUCT, [(1, (TType.BYTE, 1))]),
        (
            TType.STRUCT,
            [(1, (TType.I64, -5)), (2, (TType.BOOL, True)), (90, (TType.STRING, b"ab"))],
        ),
        (TType.STRUCT, [(n, (TType.I16, n)) for n in range(1, 20)]),
        (TType.STRUCT, [(1, (TType.STRUCT, []))]),
        (TType.STRUCT, [(1, (TType.STRING, b'"\\' * 9))]),
        (TType.STRING, b""),
        (TType.STRING, b"xyz"),
        (TType.STRING, b"\\" * 7),
        (TType.LIST, []),
        (TType.LIST, [(TType.BYTE, 1)]),
        (TType.MAP, []),
    ]
)
WALKERS: Final[dict[str, Callable[[int, int], Walker]]] = {
    "binary": BinaryWalker,
    "compact": CompactWalker,
    "json": JsonWalker,
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(SMALL, st.integers(1, 150)), min_size=1, max_size=5),
    st.sampled_from(sorted(WALKERS)),
    st.lists(st.floats(0, 1), max_size=5),
)
def test_runs_of_small_values_end_where_they_end(
    runs: list[tuple[Value, int]], family: str, cuts: list[float]
) -> None:
    values = [value for value, times in runs for _ in range(times) if value[0] == runs[0][0][0]]
    data = write([(1, (TType.LIST, values)), (2, values[0])], family)
    walker, held = WALKERS[family](0, LIMIT), bytearray()
    ends = sorted({int(cut * (len(data) - 1)) for cut in cuts})
    for start, end in zip([0, *ends], ends, strict=False):
        held += data[start:end]
        assert not walker.walk(held, 0, len(held))
    assert walker.walk(data + b"\0", 0, len(data))
    assert walker.pos == len(data)


@pytest.mark.parametrize("family", sorted(WALKERS))
def test_small_values_cost_little_a_byte(family: str) -> None:
    """What hangs on single bytes decides how long others wait; a loop of the same length is the measure."""
    bound = 8 << 18
    for value in ((TType.STRUCT, []), (TType.STRING, b""), (TType.STRUCT, [(1, (TType.BYTE, 1))])):
        data = write([(1, (TType.LIST, [value] * 4000))], family)
        times = max(1, (1 << 18) // len(data))

        def walk(data: bytes = data, times: int = times) -> None:
            for _ in range(times):
                assert WALKERS[family](0, LIMIT).walk(data, 0, len(data))

        assert rounds(walk, bound) < bound


@pytest.mark.parametrize("family", sorted(WALKERS))
def test_runs_that_break_off_are_not_searched_again_and_again(family: str) -> None:
    """Each search for a run of large structs goes far and fails at the last."""
    flat = [(n, (TType.I64, 1 << 40)) for n in range(1, 200)]
    values: list[Value] = (
        [(TType.STRUCT, flat)] * 62 + [(TType.STRUCT, [(1, (TType.STRUCT, flat))])]
    ) * 3
    data = write([(1, (TType.LIST, values))], family)
    bound = 16e6
    assert rounds(lambda: WALKERS[family](0, LIMIT).walk(data, 0, len(data)), bound) < bound
