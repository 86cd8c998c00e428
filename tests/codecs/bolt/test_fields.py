"""Header blocks: what they name, what they hold, and what is kept of them when they change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.bolt.fields import (
    METHOD,
    NO_FIELDS,
    SERVICE,
    TARGET,
    read_fields,
    write_fields,
    write_pairs,
)
from xproxy.codecs.message_wire import Malformed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers


def fields(*pairs: tuple[str, str | None]) -> bytes:
    return write_pairs(pairs)


@pytest.mark.parametrize(
    ("pairs", "service", "method", "rest"),
    [
        ([], "", "", []),
        ([(SERVICE, "a")], "a", "", []),
        ([(TARGET, "a"), (METHOD, "m")], "a", "m", []),
        ([(SERVICE, "a"), (TARGET, "b")], "a", "", [(TARGET, "b")]),
        ([(SERVICE, "first"), (SERVICE, "last")], "last", "", [(SERVICE, "first")]),
        ([(SERVICE, ""), (TARGET, "b")], "b", "", [(SERVICE, "")]),
        ([(SERVICE, None), ("k", "v")], "", "", [(SERVICE, ""), ("k", "v")]),
        ([("Service", "a")], "", "", [("Service", "a")]),
    ],
)
def test_targets_are_taken_out(
    pairs: list[tuple[str, str | None]], service: str, method: str, rest: list[tuple[str, str]]
) -> None:
    found = read_fields(fields(*pairs), 100)
    assert (found.service, found.method, list(found.headers)) == (service, method, rest)


def test_a_response_has_no_target() -> None:
    found = read_fields(fields((SERVICE, "a")), 100, ())
    assert (found.service, list(found.headers)) == ("", [(SERVICE, "a")])


def test_equal_blocks_are_read_once() -> None:
    block = fields((SERVICE, "once"))
    assert read_fields(block, 100) is read_fields(bytes(bytearray(block)), 100)


@pytest.mark.parametrize(
    "block",
    [
        b"\0",
        b"\0\0\0\1",
        b"\0\0\0\1k",
        b"\0\0\0\1k\0\0\0\2v",
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\xff\xff\xff\xfe",
        b"\x7f\xff\xff\xff",
    ],
)
def test_a_block_that_does_not_end_where_it_says_is_malformed(block: bytes) -> None:
    assert read_fields(block, 100).malformed


def test_too_many_pairs_are_refused() -> None:
    with pytest.raises(Malformed, match="more than 2"):
        read_fields(fields(*[("k", "v")] * 3), 2)


def test_a_change_keeps_the_keys_and_nulls_it_came_with() -> None:
    like = read_fields(fields((TARGET, "a"), ("null", None), ("empty", "")), 100)
    written = write_fields("b", "m", like.headers.add("new", "1"), like)
    assert written == fields(
        (TARGET, "b"), (METHOD, "m"), ("null", None), ("empty", ""), ("new", "1")
    )


def test_a_new_head_names_its_target_for_every_peer() -> None:
    written = write_fields("a", "m", Headers([(SERVICE, "other"), ("k", "v")]), None)
    assert written == fields((SERVICE, "a"), (TARGET, "a"), (METHOD, "m"), ("k", "v"))
    assert write_fields("", "", Headers([(SERVICE, "kept")]), NO_FIELDS) == fields(
        (SERVICE, "kept")
    )
    assert write_fields("", "", NO_HEADERS, None) == b""


def test_bytes_that_are_no_utf8_come_back() -> None:
    block = b"\0\0\0\1k\0\0\0\2\xff\xfe"
    found = read_fields(block, 100, ())
    assert write_fields("", "", found.headers, found) == block


def test_text_that_is_no_utf8_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        fields(("k", "\ud800"))


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_block_is_read(block: bytes) -> None:
    found = read_fields(block, 100, ())
    if not found.malformed:
        assert len(found.headers) <= 8
