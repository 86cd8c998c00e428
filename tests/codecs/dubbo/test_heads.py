"""Heads: shared where what they say recurs, late where it costs, never keeping a large body."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import attrs
import pytest

from tests.alive import parts
from xproxy.codecs.dubbo.attachments import Attachments, write_map
from xproxy.codecs.dubbo.heads import (
    EXCEPTION,
    HESSIAN2,
    NO_VALUE,
    VALUE,
    bare_response,
    opaque_request,
    read_answer,
    read_call,
)
from xproxy.codecs.dubbo.json_prefix import Address
from xproxy.codecs.dubbo.prefix import MEMO_BYTES, Prefix, make_prefix
from xproxy.codecs.hessian2 import write_binary, write_text
from xproxy.codecs.slices import Work, at_once
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status

T = TypeVar("T")
MAP = write_map((("group", "blue"),))
STRING = make_prefix("s", "m", "Ljava/lang/String;")
OBJECT = b"C\x01x\x91\x01a\x60\x90"
GENERIC = make_prefix(
    "s", "$invoke", "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;", version="1"
)


def done(found: T | Work[T]) -> T:
    """Return what was read, by work or without."""
    return at_once(found) if isinstance(found, Generator) else found


def call(prefix: Prefix, data: bytes, *, oneway: bool = False) -> tuple[RequestHead, bytes]:
    return done(read_call(oneway, prefix, data, DEFAULT_LIMITS))


def answer(data: bytes) -> tuple[ResponseHead, bytes]:
    return done(read_answer(data, DEFAULT_LIMITS))


def test_plain_arguments_and_equal_attachments_make_one_head() -> None:
    first, _ = call(STRING, b"\x01a" + MAP)
    second, data = call(STRING, b"\x02bc" + MAP)
    assert first is second
    assert data == b"\x02bc" + MAP
    assert first.headers.get("group") == "blue"
    assert call(STRING, b"\x01a" + write_map((("group", "red"),)))[0] is not first
    assert call(STRING, b"\x01a" + MAP, oneway=True)[0].oneway


@pytest.mark.parametrize(
    ("types", "arguments"),
    [
        ("Lx;", OBJECT),
        ("IIIII", b"\x90\x91\x92\x93\x94"),
        ("[I", b"V\x04[int\x92\x90\x91"),
        ("Ljava/util/Map;", b"H\x01a\x90Z"),
        ("Ljava/lang/String;", write_text("x" * 70_000)[:-1] + b"x"),
    ],
)
def test_other_arguments_make_a_head_each_that_reads_late(types: str, arguments: bytes) -> None:
    prefix = make_prefix("s", "m", types)
    heads = [call(prefix, arguments + MAP)[0] for _ in range(2)]
    assert heads[0] is not heads[1]
    assert heads[0] == heads[1]
    assert list(heads[0].headers) == [("group", "blue")]


def kept(head: RequestHead | ResponseHead) -> list[bytes]:
    """Return the body, as long as the head has it."""
    assert isinstance(head.headers, Attachments)
    return parts(head.headers, bytes)


def test_a_head_keeps_a_small_body_until_it_is_asked_and_never_a_large_one() -> None:
    prefix = make_prefix("s", "m", "Lx;I")
    small, _ = call(prefix, OBJECT + b"\x90" + MAP)
    assert kept(small)
    assert small.headers["group"] == "blue"
    assert not kept(small)
    large, _ = call(prefix, b"\x7a" + write_text("y" * 40_000) + b"N\x90" + MAP)
    assert not kept(large)
    assert large.headers["group"] == "blue"
    wide = write_map((("k", "v" * MEMO_BYTES),))
    assert call(STRING, b"\x01a" + wide)[0].headers["k"] == "v" * MEMO_BYTES
    bytes_ = make_prefix("s", "m", "[B")
    head, content = call(bytes_, write_binary(bytes(50_000)) + wide)
    assert (len(content), kept(head)) == (50_000, [])
    assert head.extra.tail == wide


def test_a_generic_call_is_for_its_first_argument() -> None:
    rest = b"\x70\x07[string\x70\x07[object"
    head, data = call(GENERIC, b"\x03say" + rest + MAP)
    assert (head.method, data) == ("say", b"\x03say" + rest + MAP)
    assert head.headers.get("group") == "blue"
    for unusable in (b"", b"N", b"\x00", write_text("x" * 5000)):
        assert call(GENERIC, unusable + rest + MAP)[0].method == "$invoke"


def test_a_byte_array_is_the_data() -> None:
    prefix = make_prefix("s", "m", "[B")
    head, data = call(prefix, b"\x23abc" + MAP)
    assert (data, head.extra.tail) == (b"abc", MAP)
    assert call(prefix, b"\x22de" + MAP)[0] is head
    head, data = call(prefix, b"N" + MAP)
    assert (data, head.extra.tail) == (b"N" + MAP, None)
    head, data = call(prefix, b"\x2fabc")
    assert (data, head.extra.tail) == (b"\x2fabc", None)


def test_nothing_is_known_of_another_serialisation() -> None:
    head = opaque_request(False, 6)
    assert (head.service, head.method, len(head.headers)) == ("", "", 0)
    assert head.extra.prefix is None
    assert opaque_request(False, 6) is head


def test_for_whom_it_is_may_be_known_all_the_same() -> None:
    address = Address("demo.Greeter", "1.2.3", "hello")
    head = opaque_request(True, 23, address)
    assert (head.service, head.method, head.oneway) == ("demo.Greeter", "hello", True)
    assert head.headers.pairs == (("version", "1.2.3"),)
    assert opaque_request(True, 23, address) is head
    assert not opaque_request(True, 23, attrs.evolve(address, version="")).headers


@pytest.mark.parametrize(
    ("first", "exception"),
    [(EXCEPTION, True), (VALUE, False), (NO_VALUE, False), (0x4E, False), (0x00, False)],
)
def test_answers_without_attachments(first: int, *, exception: bool) -> None:
    body = bytes((first,)) + b"\x01x"
    head, data = answer(body)
    assert (data, head.extra.exception, len(head.headers)) == (body, exception, 0)
    assert (head.status, head.native_status) == (Status.OK, 20)
    assert answer(body + b"more")[0] is head


@pytest.mark.parametrize("value", [b"\x93\x01x", b"\x94\x01x", b"\x95", b"\x94" + OBJECT])
def test_answers_with_attachments(value: bytes) -> None:
    head, data = answer(value + MAP)
    assert data == value + MAP
    assert list(head.headers) == [("group", "blue")]
    assert head.extra.exception == (value[0] == 0x93)
    plain = OBJECT not in value
    assert (answer(value + MAP)[0] is head) == plain


def test_a_large_answer_is_not_kept() -> None:
    value = b"\x94\x7a" + write_text("y" * 40_000) + b"N"
    head, _ = answer(value + MAP)
    assert not kept(head)
    assert list(head.headers) == [("group", "blue")]


def test_answers_of_byte_arrays() -> None:
    head, data = answer(b"\x91\x21a")
    assert (data, head.extra.tail) == (b"a", b"")
    head, data = answer(b"\x94\x21a" + MAP)
    assert (data, head.extra.tail, list(head.headers)) == (b"a", MAP, [("group", "blue")])
    long = write_map((("k", "v" * MEMO_BYTES),))
    head, data = answer(b"\x94\x21a" + long)
    assert (data, head.extra.tail, len(head.headers)) == (b"a", long, 1)


def test_errors_have_no_headers() -> None:
    head = bare_response(HESSIAN2, 60, 0)
    assert (head.status, head.native_status, len(head.headers)) == (Status.NOT_FOUND, 60, 0)
