"""Agreement told from the bytes: never where the walk finds another service."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from xproxy.codecs.dubbo import targets
from xproxy.codecs.dubbo.attachments import Attachments, write_map
from xproxy.codecs.dubbo.prefix import Prefix, make_prefix
from xproxy.codecs.dubbo.targets import LONGEST_SEARCH
from xproxy.codecs.hessian2 import write_text
from xproxy.codecs.slices import at_once

PREFIX = make_prefix("a.Good", "m", "Lx;", version="1.0")
OBJECT = b"C\x01x\x91\x01a\x60\x90"
GOOD = write_map([("path", "a.Good"), ("interface", "a.Good"), ("version", "1.0"), ("g", "b")])


def agrees(data: bytes, prefix: Prefix) -> bool:
    return at_once(targets.agrees(data, prefix))


def walked(data: bytes) -> str:
    return Attachments(data, 0, 1, 100, 65_536, PREFIX.path, PREFIX.version).conflict()


def test_the_usual_request_is_not_walked_through() -> None:
    assert agrees(OBJECT + GOOD, PREFIX)
    assert agrees(OBJECT + b"HZ", PREFIX)
    assert agrees(b"\x72\x04[int\x90\xc1\x05" + GOOD, PREFIX), (
        "an int whose byte might begin a letter"
    )


@pytest.mark.parametrize(
    "key",
    [
        b"\x04path",
        b"\x30\x04path",
        b"S\0\x04path",
        b"R\0\x04path\x00",
        b"R\0\x02paS\0\x02th",
        b"R\0\x00R\0\x01p\x03ath",
        b"R\0\x01\xc1\xb0\x03ath",
        b"\x04\xc1\xb0ath",  # as Java reads it
        b"\x04pat\xe0\x81\xa8",
        b"\x07versio\xf0\x80\x81\xae",
        b"\x09interfac\xc1\xa5",
    ],
)
def test_another_service_is_seen_however_its_key_is_written(key: bytes) -> None:
    for arguments in (OBJECT, b"\x02hi", write_text("x" * 40_000)):
        for before in (b"H", GOOD[:-1], b"M\x01t"):
            assert not agrees(arguments + before + key + write_text("a.Bad") + b"Z", PREFIX)


def test_a_long_body_of_unusual_bytes_is_walked_through() -> None:
    data = b"B\xff\xff" + b"\xc1" * 0xFFFF
    assert not agrees(data * (LONGEST_SEARCH // len(data) + 1) + GOOD, PREFIX)


def test_a_service_without_a_name_is_walked_through() -> None:
    assert not agrees(OBJECT + b"HZ", make_prefix("", "m", "Lx;"))


_TEXTS = st.sampled_from(
    ["path", "interface", "version", "a.Good", "a.Bad", "1.0", "2.0", "", "x", "é"]
)


@st.composite
def strings(draw: st.DrawFn) -> bytes:
    """A string in any of its forms, letters in more bytes than they need among them."""
    text = draw(_TEXTS)
    parts: list[bytes] = []
    while draw(st.integers(0, 3)) == 0 and text:
        cut = draw(st.integers(0, len(text)))
        parts.append(b"R" + cut.to_bytes(2) + text[:cut].encode())
        text = text[cut:]
    letters = text.encode()
    if draw(st.integers(0, 9)) == 0 and text and text.isascii():
        at = draw(st.integers(0, len(text) - 1))
        letters = letters[:at] + bytes((0xC1, 0x80 | letters[at] & 0x3F)) + letters[at + 1 :]
    size = draw(
        st.sampled_from(
            [bytes((len(text),)), bytes((0x30, len(text))), bytes((0x53, 0, len(text)))]
        )
    )
    return b"".join((*parts, size, letters))


_VALUES = st.recursive(
    strings() | st.sampled_from([b"N", b"\x91", b"\xc1\x05", b"T", b"\x22pa", b"Q\x90"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: bytes((0x78 + len(some),)) + b"".join(some))
        | st.lists(st.tuples(inner, inner).map(b"".join), max_size=2).map(
            lambda some: b"H" + b"".join(some) + b"Z"
        )
    ),
    max_leaves=4,
)
_MAPS = st.lists(st.tuples(strings(), _VALUES).map(b"".join), max_size=5).map(
    lambda some: b"H" + b"".join(some) + b"Z"
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(argument=_VALUES, attachments=_MAPS, before=st.sampled_from([b"", GOOD[1:-1]]))
@example(argument=b"N", attachments=b"HR\0\x04path\x00\x05a.BadZ", before=b"")
def test_what_is_told_to_agree_is_what_the_walk_finds(
    argument: bytes, attachments: bytes, before: bytes
) -> None:
    data = argument + b"H" + before + attachments[1:]
    conflict = walked(data)
    if agrees(data, PREFIX):
        assert "says another" not in conflict


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(argument=_VALUES, attachments=_MAPS, piece=st.integers(1, 9))
def test_it_is_the_same_however_long_a_slice_is(
    argument: bytes, attachments: bytes, piece: int
) -> None:
    data = argument + attachments
    whole = agrees(data, PREFIX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "_AT_ONCE", piece)
        patch.setattr(targets, "_SEARCHED_AT_ONCE", piece)
        assert agrees(data, PREFIX) is whole
