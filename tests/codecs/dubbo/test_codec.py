"""One Dubbo connection: both ends may call, heartbeats stay with it, the read-only event is its goodbye."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import attrs
import pytest

from xproxy.codecs.api import SupportsGoAway, SupportsHeartbeat, SupportsSnapshot
from xproxy.codecs.dubbo import attachments, heads
from xproxy.codecs.dubbo.attachments import write_map
from xproxy.codecs.dubbo.codec import DubboCodec
from xproxy.codecs.dubbo.plugin import PLUGIN
from xproxy.codecs.dubbo.prefix import make_prefix
from xproxy.codecs.hessian2 import write_text
from xproxy.codecs.message_wire import Malformed, Message
from xproxy.codecs.slices import Work
from xproxy.model.frames import Frame, GoAway, Head, Reply, Reset, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

REQUEST = RequestHead(service="demo.Greeter", method="hello")
OK = ResponseHead(status=Status.OK)


@pytest.fixture
def server() -> DubboCodec:
    return DubboCodec(Role.SERVER, DEFAULT_LIMITS)


@pytest.fixture
def client() -> DubboCodec:
    return DubboCodec(Role.CLIENT, DEFAULT_LIMITS)


def only(frames: Sequence[Frame]) -> Head:
    (frame,) = frames
    assert isinstance(frame, Head)
    return frame


def test_a_server_calls_its_client_on_the_clients_connection(
    server: DubboCodec, client: DubboCodec
) -> None:
    asked = only(client.receive(server.send(Head(1, REQUEST, b"?", end=True))))
    assert isinstance(asked.message, RequestHead)
    own = client.send(Head(1, REQUEST, b"mine", end=True))  # ids of both directions may be equal
    answered = only(server.receive(client.send(Head(1, OK, b"!", end=True))))
    assert (answered.stream_id, answered.data) == (1, b"!")
    assert only(server.receive(own)).data == b"mine"


@pytest.mark.parametrize("stream_id", [2**40, -1, 2**63 - 1, -(2**63)])
def test_ids_have_64_bits(server: DubboCodec, client: DubboCodec, stream_id: int) -> None:
    asked = only(server.receive(client.send(Head(stream_id, REQUEST, b"", end=True))))
    assert asked.stream_id == stream_id
    moved = PLUGIN.restore(server.snapshot(), Role.SERVER, DEFAULT_LIMITS)
    answered = only(client.receive(moved.send(Head(stream_id, OK, b"", end=True))))
    assert answered.stream_id == stream_id


def test_a_heartbeat_is_answered_by_the_codec_of_either_side(
    server: DubboCodec, client: DubboCodec
) -> None:
    for asking, answering in ((client, server), (server, client)):
        (reply,) = answering.receive(asking.heartbeat())
        assert isinstance(reply, Reply)
        assert reply.data == bytes.fromhex("DABB 22 14 0000000000000000 00000001 4E")
        assert list(asking.receive(reply.data)) == []


def test_the_read_only_event_is_a_goaway_and_what_is_in_flight_ends(
    server: DubboCodec, client: DubboCodec
) -> None:
    server.receive(client.send(Head(3, REQUEST, b"", end=True)))
    assert server.goaway() == bytes.fromhex("DABB A2 00 0000000000000000 00000002 0152")
    assert list(client.receive(server.goaway())) == [GoAway()]
    assert only(client.receive(server.send(Head(3, OK, b"x", end=True)))).data == b"x"


def test_unknown_answers_are_given_and_oneway_ones_not_sent(
    server: DubboCodec, client: DubboCodec
) -> None:
    raw = bytes.fromhex("DABB 02 14 0000000000000063 00000001 92")
    assert only(client.receive(raw)).stream_id == 99
    oneway = RequestHead(service="s", method="m", oneway=True)
    server.receive(client.send(Head(4, oneway, b"", end=True)))
    assert server.send(Head(4, OK, b"", end=True)) == b""


def test_a_reset_is_a_status_with_a_text(server: DubboCodec, client: DubboCodec) -> None:
    server.receive(client.send(Head(4, REQUEST, b"", end=True)))
    answer = only(client.receive(server.send(Reset(4, Status.DEADLINE_EXCEEDED))))
    assert isinstance(answer.message, ResponseHead)
    assert (answer.message.native_status, answer.data) == (30, b"\x11deadline-exceeded")


def test_too_many_requests_are_answered_with_busy(client: DubboCodec) -> None:
    server = DubboCodec(Role.SERVER, Limits(max_streams=1))
    first, second = server.receive(
        client.send(Head(1, REQUEST, b"", end=True)) + client.send(Head(2, REQUEST, b"", end=True))
    )
    assert isinstance(first, Head)
    assert isinstance(second, Reply)
    busy = only(client.receive(second.data))
    assert isinstance(busy.message, ResponseHead)
    assert (busy.stream_id, busy.message.native_status, server.refused) == (2, 100, 1)


def test_an_id_in_flight_is_not_taken_again(server: DubboCodec, client: DubboCodec) -> None:
    raw = client.send(Head(1, REQUEST, b"", end=True))
    (_, crime) = server.receive(raw + raw)
    assert isinstance(crime, Violation)


def test_what_it_supports() -> None:
    for role in Role:
        codec = PLUGIN.open(role, DEFAULT_LIMITS)
        assert isinstance(codec, SupportsHeartbeat)
        assert isinstance(codec, SupportsGoAway)
        assert isinstance(codec, SupportsSnapshot)


@pytest.mark.parametrize(
    ("heard", "asked"),
    [
        (0, "dabb e200 0000000000000000 00000001 4e"),
        (2, "dabb e200 0000000000000000 00000001 4e"),
        (6, "dabb e600 0000000000000000 00000005 6e756c6c0a"),
        (23, "dabb f700 0000000000000000 00000005 00000001af"),
        (8, "dabb e200 0000000000000000 00000001 4e"),  # whose null nobody here knows
    ],
)
def test_a_heartbeat_is_in_the_serialisation_last_heard(heard: int, asked: str) -> None:
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    assert isinstance(client, SupportsHeartbeat)
    if heard:
        client.receive(struct.pack(">HBBQI", 0xDABB, heard, 20, 1, 1) + b"x")
    assert client.heartbeat() == bytes.fromhex(asked)


# ---- for whom a request is: prefix and attachments


PREFIX = make_prefix("a.Allowed", "say", "Ljava/lang/String;", version="1.0")


def asking(attachments: bytes, arguments: bytes = b"\x02hi", flag: int = 0xC2) -> bytes:
    body = PREFIX.block + arguments + attachments
    return bytes((0xDA, 0xBB, flag, 0)) + (7).to_bytes(8) + len(body).to_bytes(4) + body


AGREEING = [
    b"",
    b"N",
    write_map([("path", "a.Allowed"), ("interface", "a.Allowed"), ("version", "1.0")]),
    write_map([("group", "blue"), ("version", "")]),
]
LYING = [
    write_map([("path", "a.Denied")]),
    write_map([("interface", "a.Denied")]),
    b"H"
    + write_text("path")
    + write_text("a.Allowed")
    + write_text("path")
    + write_text("a.Denied")
    + b"Z",
    write_map([("version", "2.0")]),
    b"H" + write_text("path") + b"\x92Z",  # a number
    b"H" + write_text("path") + b"HZZ",  # no text
    b"H" + write_text("path"),  # cannot be read
    b"H"
    + b"".join(write_text(f"k{n}") + b"N" for n in range(200))
    + write_text("path")
    + write_text("a.Denied")
    + b"Z",
    b"H" + b"R\0\2paS\0\2th" + write_text("a.Denied") + b"Z",  # a key in chunks
]
OBJECT = b"C\x07demo.Po\x91\x01x\x60\x91"
"""An argument that is no plain value."""


@pytest.mark.parametrize("arguments", [b"\x02hi", OBJECT, b"S" + b"\x9c\x40" + b"h" * 40_000])
@pytest.mark.parametrize("attachments", AGREEING)
def test_attachments_that_agree_are_served(
    server: DubboCodec, attachments: bytes, arguments: bytes
) -> None:
    (frame,) = server.receive(asking(attachments, arguments))
    assert isinstance(frame, Head)
    assert frame.message.service == "a.Allowed"  # type: ignore[union-attr]  # a request


@pytest.mark.parametrize("arguments", [b"\x02hi", OBJECT, b"S" + b"\x9c\x40" + b"h" * 40_000])
@pytest.mark.parametrize("attachments", LYING)
def test_attachments_that_name_another_service_are_refused(
    server: DubboCodec, attachments: bytes, arguments: bytes
) -> None:
    for _ in range(2):  # also once it is remembered
        (frame,) = server.receive(asking(attachments, arguments))
        assert isinstance(frame, Reply)
        assert frame.data[3] == 40, "bad request"
        assert frame.data[4:12] == (7).to_bytes(8)
    assert server.receive(asking(attachments, arguments, 0x82)) == [], "nobody waits to be told"
    (good,) = server.receive(asking(AGREEING[2], arguments))
    assert isinstance(good, Head), "the connection goes on"


def test_who_knows_what_it_does_may_pass_them() -> None:
    codec = attrs.evolve(PLUGIN, strict_target=False).open(Role.SERVER, DEFAULT_LIMITS)
    (frame,) = codec.receive(asking(LYING[0]))
    assert isinstance(frame, Head)


def lengthy(stream_id: int, path: bytes = b"demo") -> bytes:
    """Return a request of which it takes a while to tell that prefix and attachments agree."""
    unusual = b"R\0\x01p\x01p"
    body = b"\x052.0.2\x04demo\x050.0.0\x03add\x10Ljava/util/List;"
    body += b"W" + unusual + b"HZ" * 20_000 + b"ZH\x04path" + bytes((len(path),)) + path + b"Z"
    return b"\xda\xbb\xc2\0" + stream_id.to_bytes(8) + len(body).to_bytes(4) + body


def short(stream_id: int) -> bytes:
    body = b"\x052.0.2\x04demo\x00\x03add\x00HZ"
    return b"\xda\xbb\xc2\0" + stream_id.to_bytes(8) + len(body).to_bytes(4) + body


def drained(codec: DubboCodec, data: bytes) -> tuple[list[Frame], int]:
    """Return what comes of the bytes, and in how many slices."""
    frames, slices = list(codec.receive(data)), 1
    while codec.backlog:
        frames += codec.receive(b"")
        slices += 1
    return frames, slices


def test_a_request_that_takes_a_while_to_read_is_read_in_slices(server: DubboCodec) -> None:
    wire = short(1) + lengthy(2) + short(3) + lengthy(4, b"evil") + short(5)
    frames, slices = drained(server, wire)
    assert slices > 40
    kinds = [(type(frame), getattr(frame, "stream_id", None)) for frame in frames]
    assert kinds == [(Head, 1), (Head, 2), (Head, 3), (Reply, None), (Head, 5)]
    assert server.backlog_bytes == 0


@pytest.mark.parametrize("cut", [0, 1, 17])
def test_it_moves_amid_such_a_request(server: DubboCodec, cut: int) -> None:
    wire = lengthy(2) + short(3)
    frames = list(server.receive(wire))
    for _ in range(cut):
        frames += server.receive(b"")
    assert server.backlog_bytes == len(wire)
    moved = PLUGIN.restore(server.snapshot(), Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(moved, DubboCodec)
    frames, _ = drained(moved, b"")
    assert [frame.stream_id for frame in frames if isinstance(frame, Head)] == [2, 3]
    frames, _ = drained(server, b"")
    assert [frame.stream_id for frame in frames if isinstance(frame, Head)] == [2, 3]


def test_input_that_ends_amid_such_a_request_is_a_violation(server: DubboCodec) -> None:
    server.receive(lengthy(2))
    (frame,) = server.receive(None)
    assert isinstance(frame, Violation)
    assert not server.backlog


def test_a_crime_that_is_found_amid_it_ends_the_connection_and_the_backlog(
    server: DubboCodec,
) -> None:
    def work() -> Work[Message]:
        yield
        raise Malformed("nothing of ours")

    server._reading = work()
    assert not server.receive(b"")
    (frame,) = server.receive(b"")
    assert isinstance(frame, Violation)
    assert not server.backlog
    assert server.receive(b"") == ()


def test_answers_are_read_in_slices_too(client: DubboCodec) -> None:
    client.send(Head(1, REQUEST, b"", end=True))
    body = b"\x94W" + b"HZ" * 20_000 + b"ZH\x01a\x01bZ"
    wire = b"\xda\xbb\x02\x14" + (1).to_bytes(8) + len(body).to_bytes(4) + body
    frames, slices = drained(client, wire)
    assert slices > 10
    assert only(frames).message.headers.get("a") == "b"


def test_where_attachments_are_asked_for_they_are_looked_for_in_slices(
    server: DubboCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list whose attachments no name makes unusual: nobody walks through it before somebody asks."""
    monkeypatch.setattr(attachments, "DEMAND", attachments.Demand())
    monkeypatch.setattr(heads, "DEMAND", attachments.DEMAND)
    usual = lengthy(1).replace(b"R\0\x01p\x01p", b"\x05other")[: 16 + 30_000]
    body = usual[16:].rstrip(b"Z") + b"ZZH\x01a\x01bZ"
    wires = [usual[:4] + number.to_bytes(8) + len(body).to_bytes(4) + body for number in (1, 2)]
    frames, slices = drained(server, wires[0])
    assert slices == 1
    assert only(frames).message.headers.get("a") == "b"
    frames, slices = drained(server, wires[1])
    assert slices > 10
    assert only(frames).message.headers.get("a") == "b"
