"""Attachments of fastjson and fastjson2 requests that name another service than routes see."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.dubbo.test_json_prefix import jsonb, line
from xproxy.codecs.dubbo.json_prefix import FASTJSON, FASTJSON2, read_address
from xproxy.codecs.dubbo.json_targets import conflict_of
from xproxy.codecs.dubbo.plugin import PLUGIN
from xproxy.model.frames import Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role

NAMES = ("2.0.2", "a.Good", "1.0", "say", "Ljava/lang/String;")
GOOD: list[tuple[str, str | None]] = [
    ("path", "a.Good"),
    ("interface", "a.Good"),
    ("version", "1.0"),
    ("group", "blue"),
]
LIES: list[list[tuple[str, str | None]]] = [
    [("path", "a.Bad")],
    [("interface", "a.Bad")],
    [*GOOD, ("path", "a.Bad")],
    [("path", "a.Bad"), *GOOD],
    [("version", "2.0")],
    [("path", None)],
]
Pairs = Sequence[tuple[str, str | None]]


def text(value: str | None) -> bytes:
    return jsonb(value)[4:]


def packed(pairs: Pairs, *, symbols: bool = False) -> bytes:
    """Write a map in JSONB, as fastjson2 does with and without WriteNameAsSymbol."""
    body = b"".join(
        (b"\x7f" + text(key) + bytes((number,)) if symbols else text(key)) + text(value)
        for number, (key, value) in enumerate(pairs)
    )
    return sized(b"\xa6" + body + b"\xa5")


def sized(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def lined(pairs: Pairs) -> bytes:
    return ("{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}\n").encode()


def asking(
    serialization: int, attachments: bytes, argument: bytes | None = None, flag: int = 0xC0
) -> bytes:
    write = line if serialization == FASTJSON else jsonb
    body = (
        b"".join(map(write, NAMES)) + (write("hi") if argument is None else argument) + attachments
    )
    return (
        bytes((0xDA, 0xBB, flag | serialization, 0))
        + (7).to_bytes(8)
        + len(body).to_bytes(4)
        + body
    )


def is_served(raw: bytes, *, strict: bool = True, unread: bool = True) -> bool:
    plugin = attrs.evolve(PLUGIN, strict_target=strict, unread_serializations=unread)
    (frame,) = plugin.open(Role.SERVER, DEFAULT_LIMITS).receive(raw)
    if isinstance(frame, Reply):
        assert (frame.data[3], frame.data[4:12]) == (40, (7).to_bytes(8))
        return False
    assert isinstance(frame, Head)
    return True


@pytest.mark.parametrize("pairs", [GOOD, [], [("version", "")], [("group", "blue")]])
def test_what_agrees_is_served(pairs: Pairs) -> None:
    assert is_served(asking(FASTJSON, lined(pairs)))
    assert is_served(asking(FASTJSON2, packed(pairs)))
    assert is_served(asking(FASTJSON2, packed(pairs, symbols=True)))
    for serialization in (FASTJSON, FASTJSON2):
        assert is_served(asking(serialization, b""))


@pytest.mark.parametrize("pairs", LIES)
def test_another_service_is_refused(pairs: Pairs) -> None:
    lies = [
        asking(FASTJSON, lined(pairs)),
        asking(FASTJSON2, packed(pairs)),
        asking(FASTJSON2, packed(pairs, symbols=True)),
        # more attachments behind, which nobody reads
        asking(FASTJSON, lined(pairs) + lined(GOOD)),
        asking(FASTJSON2, packed(pairs) + packed(GOOD)),
    ]
    for raw in lies:
        assert not is_served(raw)
        assert is_served(raw, strict=False)


@pytest.mark.parametrize(
    "raw",
    [
        asking(FASTJSON, b'{"p\\u0061th":"a.Bad"}\n'),
        asking(FASTJSON, b"{'path':'a.Bad'}\n"),  # fastjson reads it
        asking(FASTJSON, b'{path:"a.Bad"}\n'),
        asking(FASTJSON, b'"hi"\r{"path":"a.Bad"}\n', b""),  # a line's end, in Java
        asking(FASTJSON, b"[" * 40_000 + b"\n"),
        asking(FASTJSON, b'["path"]\n'),
        asking(FASTJSON2, sized(b"\xa6\x79\x04path" + text("a.Bad") + b"\xa5")),
        asking(FASTJSON2, sized(b"\xa6\x7a\x38\x04path" + text("a.Bad") + b"\xa5")),
        asking(FASTJSON2, sized(b"\xa6\x7c\x08p\0a\0t\0h\0" + text("a.Bad") + b"\xa5")),
        asking(FASTJSON2, sized(b"\xa6\x7b\x0a\xfe\xff\0p\0a\0t\0h" + text("a.Bad") + b"\xa5")),
        asking(
            FASTJSON2,
            sized(b"\xa6\x7f\x4dpath\x01" + text("a.Good") + b"\x7f\x01" + text("a.Bad") + b"\xa5"),
        ),
        asking(FASTJSON2, b"\0\0\0\x09\xa6"),
        asking(FASTJSON2, b"", b"\0\0\0\x63\xa6"),
        asking(FASTJSON, lined(GOOD)).replace(b'"a.Good"', b"'a.Good'", 1),  # the prefix itself
        asking(FASTJSON2, packed(GOOD)).replace(b"Ljava/lang/String;", b"?java/lang/String;", 1),
    ],
)
def test_what_might_and_cannot_be_read_is_refused(raw: bytes) -> None:
    raw = raw[:12] + (len(raw) - 16).to_bytes(4) + raw[16:]
    assert not is_served(raw)
    assert is_served(raw, strict=False)


def test_nobody_waits_for_a_oneway_one_to_be_refused() -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    assert not codec.receive(asking(FASTJSON, lined(LIES[0]), flag=0x80))


def test_long_attachments_are_judged_up_to_the_limit_of_a_head() -> None:
    for many, served in ((3_000, True), (70_000, False)):
        pairs = [*GOOD, ("x", "y" * many)]
        assert is_served(asking(FASTJSON, lined(pairs))) == served
        value = b"\xa6" + b"".join(text(k) + text(v) for k, v in GOOD) + text("x") + b"\x79\x48"
        assert (
            is_served(asking(FASTJSON2, sized(value + many.to_bytes(4) + b"y" * many + b"\xa5")))
            == served
        )


def test_a_long_prefix_is_read_as_well() -> None:
    types = "Ljava/lang/String;" * 250
    body = b"".join(map(line, (*NAMES[:4], types))) + b'"x"\n' * 250
    address = read_address(FASTJSON, body, 65_536)
    assert address is not None
    assert address.parameters == 250
    assert conflict_of(FASTJSON, body + lined(GOOD), address, 65_536) == ""
    assert conflict_of(FASTJSON, body + lined(LIES[0]), address, 65_536)


@pytest.mark.parametrize("serialization", [8, 9, 11, 21, 22, 25])
def test_serialisations_of_which_nothing_is_read_pass_unless_told(serialization: int) -> None:
    raw = asking(serialization, b"")
    assert is_served(raw)
    assert not is_served(raw, unread=False)
    for read in (FASTJSON, FASTJSON2):
        assert is_served(asking(read, b""), unread=False)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([FASTJSON, FASTJSON2]), st.binary(max_size=60), st.binary(max_size=30))
def test_nothing_is_raised(serialization: int, attachments: bytes, argument: bytes) -> None:
    for frame in PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(
        asking(serialization, attachments, argument)
    ):
        assert isinstance(frame, Reply) or isinstance(getattr(frame, "message", None), RequestHead)
