"""Messages in a body."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.grpc.framing import COMPRESSED, TRAILERS, MessageReader, NotMessages, frame


def test_a_frame() -> None:
    assert frame(b"abc") == b"\0\0\0\0\x03abc"
    assert frame(b"", TRAILERS) == b"\x80\0\0\0\0"


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, COMPRESSED, TRAILERS]), st.binary(max_size=40)), max_size=6
    ),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_any_cut_gives_the_same_messages(
    messages: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(frame(message, flags) for flags, message in messages)
    reader = MessageReader(40)
    found = []
    for cut in cuts:
        found += reader.feed(wire[:cut])
        wire = wire[cut:]
    found += reader.feed(wire)
    reader.finish()
    assert found == messages


def test_a_length_above_the_limit_is_refused_before_anything_is_held() -> None:
    reader = MessageReader(10)
    with pytest.raises(NotMessages, match="11 bytes, limit 10"):
        reader.feed(b"\0\0\0\0\x0b")


def test_unknown_flags_are_refused() -> None:
    with pytest.raises(NotMessages, match="0x02"):
        MessageReader(10).feed(b"\x02\0\0\0\0")


@pytest.mark.parametrize("size", [1, 4, 5, 7])
def test_half_a_message_is_none(size: int) -> None:
    reader = MessageReader(10)
    assert reader.feed(frame(b"abc")[:size]) == []
    with pytest.raises(NotMessages, match="middle"):
        reader.finish()
