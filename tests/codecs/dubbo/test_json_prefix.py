"""For whom requests in fastjson and fastjson2 are; and nothing is raised for any bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.dubbo.json_prefix import FASTJSON, FASTJSON2, Address, read_address

GREETER = Address("demo.Greeter", "1.2.3", "hello")
NAMES = ("2.0.2", "demo.Greeter", "1.2.3", "hello", "Ljava/lang/String;")


def jsonb(text: str | None) -> bytes:
    """Write a string as fastjson2 does, with Dubbo's length before it."""
    if text is None:
        value = b"\xaf"
    elif text.isascii() and len(text) <= 47:
        value = bytes((0x49 + len(text),)) + text.encode()
    else:
        raw = text.encode()
        size = bytes((len(raw),)) if len(raw) <= 47 else (0x3800 + len(raw)).to_bytes(2)
        value = (b"\x79" if text.isascii() else b"\x7a") + size + raw
    return len(value).to_bytes(4) + value


def line(text: str | None) -> bytes:
    return json.dumps(text).encode() + b"\n"


@pytest.mark.parametrize(
    ("serialization", "write"), [(FASTJSON2, jsonb), (FASTJSON, line)], ids=["2", "1"]
)
def test_for_whom_it_is(serialization: int, write: object) -> None:
    assert callable(write)
    for names, expected in (
        (NAMES, GREETER),
        ((*NAMES[:2], None, *NAMES[3:]), Address("demo.Greeter", "", "hello")),
        ((*NAMES[:4], "L" + "x" * 300 + ";"), GREETER),
        ((NAMES[0], "größe", *NAMES[2:]), Address("größe", "1.2.3", "hello")),
        ((NAMES[0], None, *NAMES[2:]), None),
    ):
        block = b"".join(map(write, names))
        assert read_address(serialization, block) == expected
        assert read_address(serialization, block + b"\x01\x02arguments") == expected
        assert read_address(serialization, block[:-2]) is None


@pytest.mark.parametrize(
    ("serialization", "body"),
    [
        (2, b"".join(map(jsonb, NAMES))),
        (FASTJSON2, b""),
        (FASTJSON2, bytes(20)),
        (FASTJSON2, b"\xff" * 40),
        (FASTJSON2, b"".join(map(jsonb, (*NAMES[:4], "x" * 2040)))),
        (FASTJSON2, b"\0\0\0\x02\x4b\x61" * 5),
        (FASTJSON2, b"\0\0\0\x05\x79\x48\0\0\0" * 5),
        (FASTJSON2, b"\0\0\0\x02\x4a\xff" * 5),
        (FASTJSON, b"1\n2\n3\n4\n5\n"),
        (FASTJSON, b'"a"\n"b"\n'),
        (FASTJSON, b"x\n" * 5),
        (FASTJSON, b"[" * 2000 + b"\n" * 5),
    ],
)
def test_what_cannot_be_told(serialization: int, body: bytes) -> None:
    assert read_address(serialization, body) is None


@settings(max_examples=200)
@given(st.sampled_from([FASTJSON, FASTJSON2]), st.binary(max_size=60))
def test_nothing_is_raised(serialization: int, body: bytes) -> None:
    found = read_address(serialization, body)
    assert found is None or isinstance(found, Address)
