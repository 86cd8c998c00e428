from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xproxy.transport.tls.records import MAX_RECORD_BYTES, whole


def record(length: int, kind: int = 23) -> bytes:
    return bytes((kind, 3, 3, length >> 8, length & 255)) + b"x" * length


@given(st.lists(st.integers(0, 200), max_size=6), st.integers(0, 204))
def test_the_end_of_the_last_whole_record(lengths: list[int], missing: int) -> None:
    good = b"".join(map(record, lengths))
    part = record(200)[:missing]
    assert whole(good + part) == len(good)
    assert whole(b"before" + good + part, 6) == 6 + len(good)


def test_what_cannot_be_a_record_is_handed_on() -> None:
    good = record(10)
    for bad in (b"GET /", b"\x17\3\3" + (MAX_RECORD_BYTES + 1).to_bytes(2, "big")):
        assert whole(good + bad) == len(good + bad)
        assert whole(good + bad[:4]) == len(good)


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    assert 0 <= whole(data) <= len(data)
