"""The plugin dubbo keeps the codec contract and knows its own by their first bytes."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.dubbo.attachments import Attachments, write_map
from xproxy.codecs.dubbo.heads import HESSIAN2, Call
from xproxy.codecs.dubbo.plugin import EXAMPLES, PLUGIN
from xproxy.codecs.dubbo.prefix import make_prefix
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing import Samples, check_codec


def test_conformance() -> None:
    check_codec(PLUGIN)


def test_conformance_with_what_clients_sent() -> None:
    recorded = []
    for path in sorted((Path(__file__).parent / "captured").glob("*.json")):
        for connection in json.loads(path.read_text("utf-8"))["connections"]:
            sent = [s.get("hex", "") for s in connection["segments"] if s["dir"] == "c2s"]
            recorded.append(bytes.fromhex("".join(sent)))
    check_codec(PLUGIN, samples=Samples(recorded=tuple(recorded)))


def test_conformance_with_arguments_that_are_no_byte_array() -> None:
    """The kit's bodies are no hessian2: such a message passes, and passes on, as it is."""
    prefix = make_prefix("demo.Greeter", "hello", "Ljava/lang/String;")
    promise = Attachments(b"", 0, 1, 100, 1000, prefix.path, prefix.version)
    extra = Call(HESSIAN2, prefix, "hello", promise)
    head = RequestHead(service=prefix.path, method="hello", headers=promise, extra=extra)
    assert PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).send(Head(1, head, b"\x01x", end=True))
    other = Call(8, None)
    check_codec(
        PLUGIN, samples=Samples(requests=(RequestHead(service="", method="", extra=other), head))
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_known_by_its_head(example: bytes) -> None:
    for length in range(16):
        verdict = PLUGIN.detect(example[:length], NO_HINT)
        assert (verdict.kind, verdict.at_least) == (VerdictKind.MORE, length + 1)
        assert verdict.faint == (length < 2)
    for data in (example[:16], example, example * 3):
        assert PLUGIN.detect(data, NO_HINT).kind is VerdictKind.YES


@pytest.mark.parametrize("serialization", range(1, 32))
def test_any_serialisation_is_dubbo(serialization: int) -> None:
    data = bytes((0xDA, 0xBB, 0xC0 | serialization, 0)) + bytes(11) + b"\x01x"
    assert PLUGIN.detect(data, NO_HINT).kind is VerdictKind.YES


@pytest.mark.parametrize(
    "prefix",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\x01\x01",
        b"\x80\x01\x00\x01",
        b"\x00",
        b"\xda\xbc",
        b"\xda\xbb\x02",  # an answer
        b"\xda\xbb\xc0",  # no serialisation has this number
        b"\xda\xbb\xe2\x00" + bytes(8) + b"\x00\x00\x04\x01",  # an event of more than 1 KiB
        b"\xda\xbb\xc2\x00" + bytes(8) + b"\x80\x00\x00\x00",
    ],
)
def test_others_are_not_taken(prefix: bytes) -> None:
    assert PLUGIN.detect(prefix, NO_HINT).kind is VerdictKind.NO


def test_a_request_of_the_examples_is_whole() -> None:
    (frame,) = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(EXAMPLES[0])
    assert isinstance(frame, Head)
    assert isinstance(frame.message, RequestHead)
    assert (frame.message.service, frame.message.method, frame.data) == (
        "demo",
        "add",
        write_map(()),
    )


def test_codes_of_local_replies() -> None:
    head = ResponseHead(status=Status.UNAVAILABLE)
    assert PLUGIN.code_of(head) == 80
    local = attrs.evolve(head, extra=Local(reason=Reason.UPSTREAM_PROTOCOL))
    assert PLUGIN.code_of(local) == 50
    assert PLUGIN.status_of(60) is Status.NOT_FOUND
