"""Bolt's bytes against golden vectors: read in four ways, written again, and bent."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.bolt.codec import BoltCodec
from xproxy.codecs.bolt.fields import write_pairs
from xproxy.codecs.bolt.sofa_request import CLASS
from xproxy.codecs.bolt.wire import RESPONSE_CLASS, V1_HESSIAN, BoltExtra, BoltWire
from xproxy.codecs.message_wire import Malformed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, GoAway, Head, Reply, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

WIRE = BoltWire()
FILES = sorted((Path(__file__).parent / "vectors").glob("*.json"))

Vector = dict[str, Any]  # Any: JSON, checked by the tests that read it


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def vector(request: pytest.FixtureRequest) -> Vector:
    loaded: Vector = json.loads(request.param.read_text("utf-8"))
    return loaded


def read(vector: Vector, pieces: Iterable[bytes]) -> list[Frame]:
    codec = BoltCodec(Role(vector["reader"]), DEFAULT_LIMITS)
    return [frame for piece in pieces for frame in codec.receive(piece)]


def described(frame: Frame) -> dict[str, object]:
    """Say what a frame holds, in the words of the vectors."""
    if isinstance(frame, Reply):
        return {"kind": "reply", "body": frame.data.hex()}
    if isinstance(frame, GoAway):
        return {"kind": "goaway"}
    assert isinstance(frame, Head), frame
    assert frame.end
    message = frame.message
    extra = message.extra
    assert isinstance(extra, BoltExtra)
    common: dict[str, object] = {
        "id": frame.stream_id,
        "body": frame.data.hex(),
        "headers": [list(pair) for pair in message.headers],
        "version": extra.version,
    }
    if isinstance(message, ResponseHead):
        return {
            **common,
            "kind": "response",
            "status": message.status.name,
            "native": message.native_status,
        }
    return {
        **common,
        "kind": "oneway" if message.oneway else "request",
        "service": message.service,
        "method": message.method,
        "deadline": message.deadline,
    }


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def at_random(data: bytes) -> list[bytes]:
    chance = random.Random(len(data))
    cuts = [0, *sorted(chance.randrange(len(data)) for _ in range(6)), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


@pytest.mark.parametrize("cut", [whole, byte_by_byte, at_random])
def test_vectors_are_read(vector: Vector, cut: Callable[[bytes], list[bytes]]) -> None:
    frames = read(vector, cut(bytes.fromhex(vector["hex"])))
    assert [described(frame) for frame in frames] == vector["frames"]


def test_vectors_are_read_with_trailing_bytes(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    frames = read(vector, [data + data[:7]])
    assert [described(frame) for frame in frames] == vector["frames"]


@pytest.mark.parametrize("keep_origin", [True, False])
def test_vectors_are_written(vector: Vector, *, keep_origin: bool) -> None:
    data = bytes.fromhex(vector["hex"])
    sender = BoltCodec(Role.CLIENT, DEFAULT_LIMITS)
    written = b""
    expected = b""
    for frame in read(vector, [data]):
        if not isinstance(frame, Head):
            continue
        assert frame.origin is not None
        expected += frame.origin.raw
        again = frame if keep_origin else attrs.evolve(frame, origin=None)
        extra = frame.message.extra
        assert isinstance(extra, BoltExtra)
        if isinstance(frame.message, ResponseHead):
            sender = BoltCodec(Role.SERVER, DEFAULT_LIMITS)
            asked = attrs.evolve(extra, timeout=0)
            head = RequestHead(service="", method="", extra=asked)
            sender.receive(WIRE.request(frame.stream_id, head, b""))
        written += sender.send(again)
    assert written == expected


def test_an_id_is_patched_and_nothing_else(vector: Vector) -> None:
    for frame in read(vector, [bytes.fromhex(vector["hex"])]):
        if not isinstance(frame, Head) or frame.origin is None:
            continue
        patched = WIRE.patch(frame.origin.raw, -5, None)
        (back,) = read(vector, [patched])
        assert isinstance(back, Head)
        assert back.stream_id == -5
        assert (back.message, back.data) == (frame.message, frame.data)
        assert WIRE.patch(patched, frame.stream_id + 2**32, None) == frame.origin.raw


def asked(raw: bytes) -> tuple[Head, RequestHead]:
    """Read one request; return its frame and its head."""
    (frame,) = BoltCodec(Role.SERVER, DEFAULT_LIMITS).receive(raw)
    assert isinstance(frame, Head)
    assert isinstance(frame.message, RequestHead)
    return frame, frame.message


def vector_named(stem: str) -> bytes:
    (path,) = [path for path in FILES if path.stem == stem]
    return bytes.fromhex(json.loads(path.read_text("utf-8"))["hex"])


def test_what_a_head_means_is_remembered() -> None:
    head = RequestHead(service="s", method="m")
    first, second = (asked(WIRE.request(1, head, data))[1] for data in (b"1", b"2"))
    assert first is second


def test_a_large_head_and_a_large_body_are_read_and_written_too() -> None:
    head = RequestHead(service="s", method="m", headers=Headers([("long", "x" * 30_000)]))
    raw = WIRE.request(3, head, b"y" * 100_000)
    frame, got = asked(raw)
    assert frame.origin is None
    assert WIRE.request(3, got, frame.data) == raw


def test_a_changed_head_is_written_and_all_else_kept() -> None:
    like = [("service", "a"), ("sofa_head_method_name", "m"), ("k", "v"), ("null", None)]
    old, new = write_pairs(like), write_pairs([*like[:2], ("k", "w"), like[3]])
    raw = bytes.fromhex("01 01 0001 01 00000001 0C 0000000A 0003") + len(old).to_bytes(2)
    raw += b"\0\0\0\4abc" + old + b"body"
    frame, head = asked(raw)
    changed = attrs.evolve(head, headers=head.headers.set("k", "w"))
    assert WIRE.request(1, changed, frame.data) == raw.replace(old, new)
    sooner = attrs.evolve(head, deadline=0.0001)
    assert WIRE.request(1, sooner, frame.data) == raw.replace(b"\0\0\0\x0a", b"\0\0\0\1")
    assert WIRE.request(1, attrs.evolve(head, deadline=None), b"")[10:14] == bytes(4)
    moved = asked(WIRE.request(1, attrs.evolve(head, service="b", method="n"), b""))[1]
    assert (moved.service, moved.method) == ("b", "n")


def test_a_method_that_only_the_body_has_is_not_written_into_the_header() -> None:
    raw = vector_named("service-in-header-method-in-body")
    frame, head = asked(raw)
    assert WIRE.request(8, attrs.evolve(head), frame.data) == raw
    renamed = WIRE.request(8, attrs.evolve(head, method="other"), frame.data)
    trusting = BoltCodec(Role.SERVER, DEFAULT_LIMITS, strict=False)
    (again,) = trusting.receive(renamed)
    assert isinstance(again, Head)
    assert again.message.method == "other"  # type: ignore[union-attr]  # a request


def test_a_header_cannot_name_a_second_target() -> None:
    head = RequestHead(service="good", method="m", headers=Headers([("service", "evil")]))
    got = asked(WIRE.request(1, head, b""))[1]
    assert (got.service, list(got.headers)) == ("good", [])


def test_a_malformed_block_is_not_changed() -> None:
    raw = vector_named("malformed-header-block")
    frame, head = asked(raw)
    assert WIRE.request(13, attrs.evolve(head, deadline=3.0), frame.data) == raw
    with pytest.raises(LocalProtocolError, match="malformed"):
        WIRE.request(1, attrs.evolve(head, headers=Headers([("a", "b")])), b"")


def answered(
    head: ResponseHead, data: bytes = b"", dialect: int = V1_HESSIAN
) -> tuple[Head, ResponseHead]:
    """Write one answer and read it; return its frame and its head."""
    codec = BoltCodec(Role.CLIENT, DEFAULT_LIMITS)
    (frame,) = codec.receive(WIRE.response(5, head, data, dialect))
    assert isinstance(frame, Head)
    assert isinstance(frame.message, ResponseHead)
    return frame, frame.message


@pytest.mark.parametrize(
    "dialect", [V1_HESSIAN, 11 | 1 << 24, 0x0201_000C, 0x0201_0101, 0x0202_0101]
)
def test_a_local_reply_is_empty_and_in_the_requests_dialect(dialect: int) -> None:
    head = ResponseHead(status=Status.UNAVAILABLE, extra=Local(reason=Reason.UPSTREAM_RESET))
    frame, got = answered(head, b"text", dialect)
    assert isinstance(got.extra, BoltExtra)
    assert (got.extra.dialect, got.extra.class_name, got.extra.block) == (dialect, b"", b"")
    assert (got.native_status, frame.data) == (16, b"")


def test_a_local_success_has_its_content() -> None:
    frame, got = answered(ResponseHead(status=Status.OK, headers=Headers([("a", "b")])), b"N")
    assert (frame.data, list(got.headers)) == (b"N", [("a", "b")])
    assert got.extra.class_name == RESPONSE_CLASS


@pytest.mark.parametrize(
    ("status", "native", "sent"),
    [(Status.NOT_FOUND, 6, 6), (Status.NOT_FOUND, 404, 6), (Status.UNKNOWN, 99, 3)],
)
def test_a_native_status_is_believed_if_it_is_one_of_ours(
    status: Status, native: int, sent: int
) -> None:
    frame, got = answered(ResponseHead(status=status, native_status=native), b"why")
    assert (got.native_status, frame.data) == (sent, b"why" if native == sent else b"")


def test_an_answer_in_another_version_is_written_anew() -> None:
    frame, head = answered(ResponseHead(status=Status.OK), b"body")
    assert frame.origin is not None
    assert WIRE.patch(frame.origin.raw, 1, 0x0202_0101) == b""
    new = WIRE.response(5, head, frame.data, 0x0202_0101)
    assert new[0] == 2
    assert zlib.crc32(new[:-4]).to_bytes(4) == new[-4:]
    assert WIRE.patch(new, 1, V1_HESSIAN) == b""
    assert WIRE.patch(new, 1, 0x0201_0101) == b""
    assert WIRE.patch(new, 1, 0x0202_010B)[6:10] == b"\0\0\0\1"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ("03", "version 3"),
        ("01 03 0001" + "00" * 20, "type 3 with command 1"),
        ("01 01 0002" + "00" * 20, "type 1 with command 2"),
        ("01 00 0001" + "00" * 20, "type 0 with command 1"),
        ("02 03 01 0001" + "00" * 20, "ver1 is 3"),
        ("01 01 0001 01 00000001 01 00000000 0000 0000 FFFFFFFF", "limit 16777216"),
        ("01 01 0001 01 00000001 01 00000000 FFFF FFFF 00000000", "limit 65536"),
        ("02 02 01 0001 01 00000001 01 01 00000000 0000 0000 00000000 00000000", "CRC"),
    ],
)
def test_a_peers_crime_is_malformed(data: str, detail: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(Malformed, match=detail):
        WIRE.decode(raw, 0, len(raw), DEFAULT_LIMITS)


def test_a_declared_length_is_judged_before_it_is_waited_for() -> None:
    raw = bytes.fromhex("01 01 0001 01 00000001 01 00000000 0000 0000 000003E8")
    assert WIRE.decode(raw, 0, len(raw), Limits(max_message_bytes=1022)) == 1022
    with pytest.raises(Malformed, match="message of 1022 bytes, limit 1021"):
        WIRE.decode(raw, 0, len(raw), Limits(max_message_bytes=1021))


def test_too_many_header_pairs_are_malformed() -> None:
    head = RequestHead(service="s", method="m", headers=Headers([("a", "b")] * 9))
    raw = WIRE.request(1, head, b"")
    with pytest.raises(Malformed, match="more than 8 header pairs"):
        WIRE.decode(raw, 0, len(raw), Limits(max_headers=8))


@pytest.mark.parametrize("service", ["s" * 40_000, "\ud800"])
def test_what_the_wire_cannot_hold_is_our_own_mistake(service: str) -> None:
    with pytest.raises(LocalProtocolError):
        WIRE.request(1, RequestHead(service=service, method=""), b"")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=150)
@given(
    stream_id=st.integers(-(2**31), 2**31 - 1),
    service=texts,
    method=texts,
    pairs=st.lists(st.tuples(texts, texts), max_size=4),
    milliseconds=st.none() | st.integers(1, 2**31 - 1),
    oneway=st.booleans(),
    data=st.binary(max_size=50),
)
def test_requests_come_back_as_they_were_sent(
    stream_id: int,
    service: str,
    method: str,
    pairs: list[tuple[str, str]],
    milliseconds: int | None,
    oneway: bool,
    data: bytes,
) -> None:
    deadline = milliseconds / 1000 if milliseconds is not None else None
    head = RequestHead(
        service=service, method=method, headers=Headers(pairs), deadline=deadline, oneway=oneway
    )
    (got,) = BoltCodec(Role.SERVER, DEFAULT_LIMITS).receive(WIRE.request(stream_id, head, data))
    assert isinstance(got, Head)
    assert attrs.evolve(got.message, extra=None) == head
    assert (got.stream_id, got.data) == (stream_id, data)


@settings(max_examples=200)
@given(
    prefix=st.sampled_from(
        [b"", *(bytes.fromhex(json.loads(p.read_text())["hex"]) for p in FILES)]
    ),
    keep=st.integers(0, 400),
    noise=st.binary(max_size=60),
    role=st.sampled_from(Role),
)
def test_no_bytes_whatever_raise(prefix: bytes, keep: int, noise: bytes, role: Role) -> None:
    codec = BoltCodec(role, Limits(max_message_bytes=2000, max_head_bytes=500, max_streams=2))
    frames = [*codec.receive(prefix[:keep] + noise), *codec.receive(None)]
    crimes = [i for i, frame in enumerate(frames) if isinstance(frame, Violation)]
    assert crimes in ([], [len(frames) - 1])


# ---- for whom a request is: header and content


def sofa(service: str, method: str, *, draft: bool = False, tail: bytes = b"") -> bytes:
    """Return the content of a SofaRequest, in hessian 2 or as SOFA's own hessian writes it."""

    def text(value: str) -> bytes:
        size = len(value)
        return (
            bytes((size,)) if size < 32 else bytes((0x30 + (size >> 8), size & 255))
        ) + value.encode()

    names = ["methodName", "methodArgSigs", "targetServiceUniqueName", "targetAppName"]
    if draft:
        head = b"O" + bytes((0x90 + len(CLASS),)) + CLASS + bytes((0x90 + len(names),))
        signatures = b"Vt\x00\x11[java.lang.Stringn\x02" + text("int") + text("int") + b"z"
        instance = b"o\x90"
    else:
        head = b"C" + text(CLASS.decode()) + bytes((0x90 + len(names),))
        signatures = b"\x72" + text("[string") + text("int") + text("int")
        instance = b"\x60"
    fields = text(method) + signatures + text(service) + b"N"
    return head + b"".join(map(text, names)) + instance + fields + tail


def header(**pairs: str) -> bytes:
    return write_pairs(pairs.items())


def sofa_request(block: bytes, content: bytes, *, type_: int = 1, codec: int = 1) -> bytes:
    fixed = (1, type_, 1, 1, 7, codec, 3000, len(CLASS), len(block), len(content))
    return struct.pack(">BBHBiBiHHI", *fixed) + CLASS + block + content


BOTH = header(service="a.Allowed:1.0", sofa_head_method_name="say")


def asked_of(raw: bytes, *, strict: bool = True) -> list[Frame]:
    return list(BoltCodec(Role.SERVER, DEFAULT_LIMITS, strict=strict).receive(raw))


@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize(
    ("block", "service", "method"),
    [
        (BOTH, "a.Allowed:1.0", "say"),
        (header(service="a.Allowed:1.0"), "a.Allowed:1.0", "say"),
        (header(sofa_head_method_name="say"), "a.Allowed:1.0", "say"),
        (b"", "a.Allowed:1.0", "say"),
    ],
)
def test_what_agrees_is_served_as_what_it_is(
    block: bytes, service: str, method: str, draft: bool
) -> None:
    for tail in (b"\x91", b"\x92other"):  # the second time it is remembered
        raw = sofa_request(block, sofa("a.Allowed:1.0", "say", draft=draft, tail=tail))
        (frame,) = asked_of(raw)
        assert isinstance(frame, Head)
        head = frame.message
        assert isinstance(head, RequestHead)
        assert (head.service, head.method) == (service, method)
        written = BoltCodec(Role.CLIENT, DEFAULT_LIMITS).send(attrs.evolve(frame, origin=None))
        assert written[:5] == raw[:5]
        assert written[9:] == raw[9:], "nothing of it is moved into the header"


LIES = [
    (BOTH, sofa("a.Denied:1.0", "say")),
    (BOTH, sofa("a.Denied:1.0", "say", draft=True)),
    (BOTH, sofa("a.Allowed:1.0", "drop")),
    (BOTH, sofa("a.Allowed:1.0", "drop", draft=True)),
    (header(service="a.Allowed:1.0"), sofa("a.Denied:1.0", "say")),
    (header(service="a.Allowed:1.0", sofa_head_target_service="a.Denied:1.0"), b"N"),
    (BOTH, sofa("a.Allowed:1.0", "say")[:-9]),  # cut
    (BOTH, b"Mt\0\x01x" + b"\x0amethodName\x04dropz"),  # a map with a type may become any object
    (BOTH, b"C" + sofa("a.Allowed:1.0", "say")[1:].replace(b"\x60", b"\x61", 1)),
]


@pytest.mark.parametrize(("block", "content"), LIES)
def test_who_names_two_is_refused(block: bytes, content: bytes) -> None:
    asked_of(sofa_request(BOTH, sofa("a.Allowed:1.0", "say")))  # what was remembered helps nobody
    (frame,) = asked_of(sofa_request(block, content))
    assert isinstance(frame, Reply)
    assert int.from_bytes(frame.data[10:12]) == 9, "codec exception"
    assert asked_of(sofa_request(block, content, type_=2)) == [], "nobody waits to be told"
    (passed,) = asked_of(sofa_request(block, content), strict=False)
    assert isinstance(passed, Head)


@pytest.mark.parametrize("content", [b"", b"N", b"\x05hello", b"anything at all"])
def test_content_that_is_no_object_calls_nothing(content: bytes) -> None:
    (frame,) = asked_of(sofa_request(BOTH, content))
    assert isinstance(frame, Head)


def test_of_other_codecs_the_header_alone_says_it() -> None:
    (frame,) = asked_of(sofa_request(BOTH, sofa("a.Denied:1.0", "say"), codec=11))
    assert isinstance(frame, Head), "protobuf: no server looks for a SofaRequest in it"
