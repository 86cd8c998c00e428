"""Dubbo's bytes against golden vectors and captures: read in four ways, written again, and bent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alive import parts
from xproxy.codecs.dubbo.attachments import Attachments
from xproxy.codecs.dubbo.codec import DubboCodec
from xproxy.codecs.dubbo.heads import Answer, Call
from xproxy.codecs.dubbo.wire import DubboWire
from xproxy.codecs.hessian2 import read_text
from xproxy.codecs.message_wire import Malformed
from xproxy.model.frames import Frame, GoAway, Head, Reply, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, MIB, Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

WIRE = DubboWire()
HERE = Path(__file__).parent
FILES = sorted((HERE / "vectors").glob("*.json"))
CAPTURES = sorted((HERE / "captured").glob("*.json"))

Vector = dict[str, Any]  # Any: JSON, checked by the tests that read it


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def vector(request: pytest.FixtureRequest) -> Vector:
    loaded: Vector = json.loads(request.param.read_text("utf-8"))
    return loaded


def read(role: Role, pieces: Iterable[bytes]) -> list[Frame]:
    codec = DubboCodec(role, DEFAULT_LIMITS, strict=False)
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
    assert isinstance(extra, Call | Answer)
    common: dict[str, object] = {
        "id": frame.stream_id,
        "body": frame.data.hex(),
        "headers": [list(pair) for pair in message.headers],
        "serialization": extra.serialization,
    }
    if isinstance(message, ResponseHead):
        assert isinstance(extra, Answer)
        return {
            **common,
            "kind": "response",
            "status": message.status.name,
            "native": message.native_status,
            "exception": extra.exception,
        }
    return {
        **common,
        "kind": "oneway" if message.oneway else "request",
        "service": message.service,
        "method": message.method,
    }


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def at_random(data: bytes) -> list[bytes]:
    chance = random.Random(len(data))
    cuts = [0, *sorted(chance.randrange(len(data)) for _ in range(6)), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


CUTS = [whole, byte_by_byte, at_random]


@pytest.mark.parametrize("cut", CUTS)
def test_vectors_are_read(vector: Vector, cut: Callable[[bytes], list[bytes]]) -> None:
    frames = read(Role(vector["reader"]), cut(bytes.fromhex(vector["hex"])))
    assert [described(frame) for frame in frames] == vector["frames"]


def test_vectors_are_read_with_trailing_bytes(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    frames = read(Role(vector["reader"]), [data + data[:15]])
    assert [described(frame) for frame in frames] == vector["frames"]


@pytest.mark.parametrize("keep_origin", [True, False])
def test_vectors_are_written(vector: Vector, *, keep_origin: bool) -> None:
    written = expected = b""
    for frame in read(Role(vector["reader"]), [bytes.fromhex(vector["hex"])]):
        if not isinstance(frame, Head):
            continue
        assert frame.origin is not None
        expected += frame.origin.raw
        if keep_origin:
            written += WIRE.patch(frame.origin.raw, frame.stream_id, 2)
        elif isinstance(frame.message, RequestHead):
            written += WIRE.request(frame.stream_id, frame.message, frame.data)
        elif is_known_status(frame.message):
            written += WIRE.response(frame.stream_id, frame.message, frame.data, 2)
        else:
            written += frame.origin.raw
    assert written == expected


def is_known_status(head: ResponseHead) -> bool:
    return head.status is not Status.UNKNOWN


def test_an_id_is_patched_and_nothing_else(vector: Vector) -> None:
    role = Role(vector["reader"])
    for frame in read(role, [bytes.fromhex(vector["hex"])]):
        if not isinstance(frame, Head) or frame.origin is None:
            continue
        patched = WIRE.patch(frame.origin.raw, -5, None)
        (back,) = read(role, [patched])
        assert isinstance(back, Head)
        assert back.stream_id == -5
        assert (back.message, back.data) == (frame.message, frame.data)
        assert WIRE.patch(patched, frame.stream_id + 2**64, None) == frame.origin.raw


def conversations() -> list[Any]:
    found = []
    for path in CAPTURES:
        for index, connection in enumerate(json.loads(path.read_text("utf-8"))["connections"]):
            found += [
                pytest.param(connection, way, id=f"{path.stem}-{index}-{way}")
                for way in ("c2s", "s2c")
            ]
    return found


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("connection", "way"), conversations())
def test_captures_are_read_and_written(
    connection: Vector, way: str, cut: Callable[[bytes], list[bytes]]
) -> None:
    sent = "".join(s.get("hex", "") for s in connection["segments"] if s["dir"] == way)
    data = bytes.fromhex(sent)
    wanted = [frame for frame in connection["frames"] if frame["dir"] == way]
    frames = read(Role.SERVER if way == "c2s" else Role.CLIENT, cut(data))
    replies = [frame for frame in frames if isinstance(frame, Reply)]
    assert len(replies) == sum(frame["kind"] == "heartbeat" for frame in wanted)
    heads = [frame for frame in frames if isinstance(frame, Head)]
    wanted = [frame for frame in wanted if not frame["event"]]
    assert len(heads) == len(wanted)
    for head, expected in zip(heads, wanted, strict=True):
        message, extra = head.message, head.message.extra
        assert head.stream_id == expected["id"]
        raw = data[expected["offset"] : expected["offset"] + expected["length"]]
        if isinstance(message, ResponseHead):
            assert message.native_status == expected["status"]
            assert extra.exception == (expected.get("meaning") == "exception")
            assert WIRE.response(head.stream_id, message, head.data, 2) == raw
            continue
        prefix = extra.prefix
        assert (message.service, message.method) == (expected["service"], expected["method"])
        assert not message.oneway
        assert prefix.release == expected["dubbo_version"]
        assert prefix.version == expected["service_version"]
        assert prefix.types == expected["param_types"]
        assert head.data == raw[expected["args_offset"] :]
        assert message.headers.get("version") == expected["service_version"] or not prefix.version
        assert WIRE.request(head.stream_id, message, head.data) == raw


def test_attachments_of_a_capture() -> None:
    (path,) = [path for path in CAPTURES if path.stem == "dubbo-dubbo2js"]
    connection = json.loads(path.read_text("utf-8"))["connections"][0]
    data = bytes.fromhex(
        "".join(s.get("hex", "") for s in connection["segments"] if s["dir"] == "c2s")
    )
    heads = [f.message for f in read(Role.SERVER, [data]) if isinstance(f, Head)]
    assert {head.headers.get("timeout") for head in heads} == {"3000", None}
    assert {head.headers.get("group") for head in heads} == {"blue", None}
    assert heads[2].headers == Headers(
        [
            ("application", "dubbo2.js"),
            ("group", "blue"),
            ("timeout", "3000"),
            ("version", "1.2.3"),
        ]
    )


# ---- what recurs


def vector_named(stem: str) -> bytes:
    return bytes.fromhex(json.loads((HERE / "vectors" / f"{stem}.json").read_text("utf-8"))["hex"])


def asked(raw: bytes) -> tuple[Head, RequestHead]:
    """Read one request; return its frame and its head."""
    codec = DubboCodec(Role.SERVER, DEFAULT_LIMITS)
    frames = list(codec.receive(raw))
    while codec.backlog:
        frames += codec.receive(b"")
    (frame,) = frames
    assert isinstance(frame, Head)
    assert isinstance(frame.message, RequestHead)
    return frame, frame.message


def answered(head: ResponseHead, data: bytes = b"", dialect: int = 2) -> tuple[Head, ResponseHead]:
    """Write one answer and read it; return its frame and its head."""
    codec = DubboCodec(Role.CLIENT, DEFAULT_LIMITS)
    (frame,) = codec.receive(WIRE.response(5, head, data, dialect))
    assert isinstance(frame, Head)
    assert isinstance(frame.message, ResponseHead)
    return frame, frame.message


def test_what_a_head_means_is_remembered() -> None:
    head = RequestHead(service="s", method="m")
    first, second = (asked(WIRE.request(1, head, data))[1] for data in (b"1", b"2"))
    assert first is second
    one, two = (asked(vector_named("request"))[1] for _ in range(2))
    assert one is two


# ---- answers


@pytest.mark.parametrize("dialect", [2, 6, 0x22])
def test_a_local_reply_is_a_status_and_a_text(dialect: int) -> None:
    head = ResponseHead(
        status=Status.UNAVAILABLE, extra=Local(detail="no such port", reason=Reason.UPSTREAM_RESET)
    )
    frame, got = answered(head, b"", dialect)
    assert got.native_status == 80
    assert read_text(frame.data, 0) == ("no such port", len(frame.data))
    frame, _ = answered(ResponseHead(status=Status.NOT_FOUND))
    assert read_text(frame.data, 0)[0] == "not-found"
    frame, _ = answered(ResponseHead(status=Status.NOT_FOUND), b"gone \xff")
    assert read_text(frame.data, 0)[0] == "gone \ufffd"


def test_a_local_success_is_a_byte_array() -> None:
    head = ResponseHead(status=Status.OK, headers=Headers([("a", "b")]))
    frame, got = answered(head, b"body", 0x22)
    assert (frame.data, list(got.headers)) == (b"body", [("a", "b")])
    frame, got = answered(head, b"body", 2)  # the caller does not understand attachments
    assert (frame.data, list(got.headers)) == (b"body", [])


@pytest.mark.parametrize(
    ("status", "native", "sent"),
    [(Status.NOT_FOUND, 60, 60), (Status.NOT_FOUND, 404, 60), (Status.UNKNOWN, 99, 80)],
)
def test_a_native_status_is_believed_if_it_is_one_of_ours(
    status: Status, native: int, sent: int
) -> None:
    frame, got = answered(ResponseHead(status=status, native_status=native), b"why")
    assert got.native_status == sent
    assert read_text(frame.data, 0)[0] == "why"


# ---- crimes


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ("DB", "magic"),
        ("DA BC", "magic"),
        ("DA BC" + "00" * 14, "magic"),
        ("DABB C2 00 0000000000000001 FFFFFFFF", "limit 16777216"),
        ("DABB E2 00 0000000000000001 00000401", "event of 1025 bytes, limit 1024"),
    ],
)
def test_a_peers_crime_is_malformed(data: str, detail: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(Malformed, match=detail):
        WIRE.decode(raw, 0, len(raw), DEFAULT_LIMITS)


def test_a_declared_length_is_judged_before_it_is_waited_for() -> None:
    raw = bytes.fromhex("DABB C2 00 0000000000000001 000003E8")
    assert WIRE.decode(raw, 0, len(raw), Limits(max_message_bytes=1016)) == 1016
    with pytest.raises(Malformed, match="message of 1016 bytes, limit 1015"):
        WIRE.decode(raw, 0, len(raw), Limits(max_message_bytes=1015))


def test_a_prefix_above_the_limit_of_a_head_is_refused() -> None:
    raw = WIRE.request(1, RequestHead(service="s" * 2000, method=""), b"")
    limits = Limits(max_head_bytes=1000)
    (frame,) = DubboCodec(Role.SERVER, limits).receive(raw)
    assert isinstance(frame, Reply)
    assert frame.data[3] == 40


def test_a_large_body_is_not_kept_by_its_head() -> None:
    head = RequestHead(service="s", method="m", headers=Headers([("long", "x" * 3000)]))
    raw = WIRE.request(3, head, b"y" * MIB)
    frame, got = asked(raw)
    assert frame.origin is None
    assert len(frame.data) == MIB
    assert isinstance(got.headers, Attachments)
    assert not parts(got.headers, bytes)
    assert WIRE.request(3, got, frame.data) == raw


texts = st.text(st.characters(), max_size=40)


@settings(max_examples=150)
@given(
    stream_id=st.integers(-(2**63), 2**63 - 1),
    service=texts,
    method=texts,
    fields=st.dictionaries(texts, texts, max_size=4),
    oneway=st.booleans(),
    data=st.binary(max_size=50),
)
def test_requests_come_back_as_they_were_sent(
    stream_id: int,
    service: str,
    method: str,
    fields: dict[str, str],
    oneway: bool,
    data: bytes,
) -> None:
    pairs = [pair for pair in fields.items() if pair[0] not in {"path", "interface"}]
    head = RequestHead(service=service, method=method, headers=Headers(pairs), oneway=oneway)
    (got,) = DubboCodec(Role.SERVER, DEFAULT_LIMITS).receive(WIRE.request(stream_id, head, data))
    assert isinstance(got, Head)
    assert attrs.evolve(got.message, extra=None) == head
    assert (got.stream_id, got.data) == (stream_id, data)


SEEDS = [b"", *(bytes.fromhex(json.loads(p.read_text())["hex"]) for p in FILES)]


@settings(max_examples=300)
@given(
    prefix=st.sampled_from(SEEDS),
    keep=st.integers(0, 400),
    noise=st.binary(max_size=60),
    role=st.sampled_from(Role),
)
def test_no_bytes_whatever_raise(prefix: bytes, keep: int, noise: bytes, role: Role) -> None:
    codec = DubboCodec(role, Limits(max_message_bytes=2000, max_head_bytes=500, max_streams=2))
    frames = [*codec.receive(prefix[:keep] + noise), *codec.receive(None)]
    for frame in frames:
        if isinstance(frame, Head):
            assert len(frame.message.headers) >= 0  # reading them late raises nothing either
    crimes = [i for i, frame in enumerate(frames) if isinstance(frame, Violation)]
    assert crimes in ([], [len(frames) - 1])


@settings(max_examples=200)
@given(
    body=st.sampled_from([s[16:] for s in SEEDS if s]),
    at=st.integers(0, 200),
    noise=st.binary(max_size=9),
)
def test_a_bent_body_disturbs_nothing(body: bytes, at: int, noise: bytes) -> None:
    bent = body[:at] + noise + body[at + len(noise) :]
    raw = bytes.fromhex("DABBC200") + bytes(8) + len(bent).to_bytes(4) + bent
    codec = DubboCodec(Role.SERVER, DEFAULT_LIMITS)
    frames = list(codec.receive(raw + vector_named("oneway")))
    while codec.backlog:
        frames += codec.receive(b"")
    first, second = frames
    assert isinstance(second, Head)
    if isinstance(first, Head):
        assert isinstance(first.message, RequestHead)
        assert len(first.message.headers) >= 0
        assert (
            WIRE.request(0, first.message, first.data) == raw
            or first.message.extra.tail is not None
        )
