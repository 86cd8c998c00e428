"""Recorded traffic of PyPI's thrift 0.25 and npm's, every transport with every protocol: read in every cut, written
again, and moved at every byte."""

from __future__ import annotations

import attrs
import pytest

from tests.codecs.thrift.recordings import (
    PLAIN_OK,
    RECORDINGS,
    Recording,
    cuts,
    heads,
    read,
    request_of,
    response_of,
)
from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.slices import at_once
from xproxy.codecs.thrift.dialect import Protocol, Transport
from xproxy.codecs.thrift.header import undo
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN
from xproxy.codecs.thrift.server import ServerCodec
from xproxy.model.frames import Frame, Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

TRANSPORTS = {
    "framed": Transport.FRAMED,
    "unframed": Transport.UNFRAMED,
    "header": Transport.HEADER,
}
PROTOCOLS = {
    "binary strict": Protocol.STRICT,
    "binary old": Protocol.OLD,
    "compact": Protocol.COMPACT,
    "json": Protocol.JSON,
}

each = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: r.name)


def client_of(recording: Recording) -> list[Head]:
    """Return the calls, as a server reads them."""
    return heads(read(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS), [recording.asked]))


def awaiting(recording: Recording) -> ServerClient:
    return ServerClient(recording)


@attrs.define
class ServerClient:
    """A client that makes each recorded call when the answers before it have come."""

    recording: Recording

    def read(self, cut_all: int) -> list[Frame]:
        codec = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
        answers = iter(self.recording.answers)
        frames: list[Frame] = []
        for call, said in zip(client_of(self.recording), self.recording.calls, strict=True):
            seqid = said.facts["id"]
            codec.send(Head(seqid, call.message, call.data, end=True))
            if not request_of(call).oneway:
                pieces = list(cuts(next(answers).wire))
                frames += read(codec, pieces[cut_all % len(pieces)])
        assert next(answers, None) is None
        return frames


def test_all_are_here() -> None:
    assert len(RECORDINGS) == 18


@each
def test_each_first_call_is_recognised(recording: Recording) -> None:
    assert PLUGIN.detect(recording.calls[0].wire, NO_HINT).kind is VerdictKind.YES


@each
def test_calls_are_what_the_describer_says(recording: Recording) -> None:
    for said, head in zip(recording.calls, client_of(recording), strict=True):
        request = request_of(head)
        extra = request.extra
        assert isinstance(extra, ThriftExtra)
        facts = said.facts
        assert extra.dialect.transport is TRANSPORTS[facts["transport"]]
        assert extra.dialect.protocol is PROTOCOLS[facts["protocol"]]
        service, _, method = facts["method"].rpartition(":")
        assert (request.service, request.method) == (service, method)
        assert request.oneway == (said.kind == "oneway")
        assert dict(request.headers) == facts.get("headers", {})
        assert extra.transforms == tuple(facts.get("transforms", ()))
        if "args_offset" in facts:
            assert head.data == said.wire[facts["args_offset"] :]


@each
def test_calls_in_every_cut(recording: Recording) -> None:
    expected = client_of(recording)
    for pieces in cuts(recording.asked):
        assert read(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS), pieces) == expected


@each
def test_answers_in_every_cut(recording: Recording) -> None:
    client = awaiting(recording)
    expected = heads(client.read(0))
    assert len(expected) == len(recording.answers)
    for said, head in zip(recording.answers, expected, strict=True):
        response = response_of(head)
        assert (response.native_status == -1) == (said.kind == "reply")
        assert (response.status is Status.OK) == (said.kind == "reply")
        assert response.extra.declared == (said.facts["method"] == "fail")
    for cut in range(1, 40):
        assert client.read(cut) == expected


@each
def test_the_unknown_method_is_an_exception(recording: Recording) -> None:
    exceptions = [response_of(h) for h in heads(awaiting(recording).read(0)) if not _succeeded(h)]
    assert len(exceptions) == len([s for s in recording.answers if s.kind == "exception"])
    assert {e.native_status for e in exceptions} <= {0, 1}  # Node gives no type


def _succeeded(head: Head) -> bool:
    return response_of(head).status is Status.OK


@each
def test_calls_are_written_again_as_they_came(recording: Recording) -> None:
    for said, head in zip(recording.calls, client_of(recording), strict=True):
        seqid = said.facts["id"]
        written = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).send(
            Head(seqid, head.message, head.data, end=True)
        )
        if said.facts.get("transforms"):
            start = said.facts["payload_offset"]
            assert written[4:start] == said.wire[4:start]
            assert at_once(undo(written[start:], 9999)) == at_once(undo(said.wire[start:], 9999))
        else:
            assert written == said.wire


@each
def test_answers_are_written_again_as_they_came(recording: Recording) -> None:
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    asked = read(server, [recording.asked])
    waiting = [h for h in heads(asked) if not request_of(h).oneway]
    answers = heads(awaiting(recording).read(0))
    written = b"".join(
        server.send(Head(call.stream_id, answer.message, answer.data, end=True))
        for call, answer in zip(waiting, answers, strict=True)
    )
    # Node's server and client write strict heads only, so no dialect changes on the way.
    assert written == recording.told


@each
def test_another_id_changes_nothing_else(recording: Recording) -> None:
    for head in client_of(recording):
        written = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).send(
            Head(70_000, head.message, head.data, end=True)
        )
        (again,) = heads(PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(written))
        assert (again.stream_id, again.message, again.data) == (70_000, head.message, head.data)


@each
def test_a_server_moves_at_every_byte(recording: Recording) -> None:
    data = recording.asked
    expected = client_of(recording)
    for offset in range(len(data) + 1):
        before = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(before, ServerCodec)
        frames = list(before.receive(data[:offset]))
        after = PLUGIN.restore(before.snapshot(), Role.SERVER, DEFAULT_LIMITS)
        frames += after.receive(data[offset:])
        assert frames == expected
        answers = [after.send(Head(h.stream_id, PLAIN_OK, b"", end=True)) for h in heads(frames)]
        assert sum(map(bool, answers)) == sum(
            not h.message.oneway for h in heads(frames) if isinstance(h.message, RequestHead)
        )
