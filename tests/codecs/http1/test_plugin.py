"""Detection for every prefix, and the kit's whole list of rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xproxy.codecs.api import (
    NO,
    NO_HINT,
    YES,
    Hint,
    RestoringPlugin,
    SupportsNativeStatus,
    VerdictKind,
)
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.testing import Samples, check_codec


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET http://a/ HTTP/1.1\r\n",
        b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\n",
        b"POST /a",
        b"PUT /a",
        b"PATCH /a",
        b"PROPFIND /a",
        b"PRINT /a",
        b"M-SEARCH *",
        b"\r\nGET /",
        b"\r\n\r\nGET /",
        b"A" * 32 + b" /",
    ],
)
def test_http_is_recognised_at_the_first_byte_of_its_target(wire: bytes) -> None:
    token = wire.lstrip(b"\r\n").split(b" ")[0]
    needed = wire.index(token) + len(token) + 2
    for size in range(len(wire) + 1):
        verdict = PLUGIN.detect(wire[:size], NO_HINT)
        if size < needed:
            assert verdict.kind is VerdictKind.MORE
            assert size < verdict.at_least <= needed
        else:
            assert verdict is YES


@pytest.mark.parametrize(
    "wire",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI /",
        b"get / HTTP/1.1\r\n",
        b"Get / HTTP/1.1\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET\r\n",
        b"GET \r\n",
        b" GET /",
        b"\nGET /",
        b"\rGET /",
        b"\r\n\r\n\r\nGET /",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"A" * 33,
        b"A" * 33 + b" /",
        b"\x16\x03\x01\x00\x05\x01",
        b"\x01\x01\x00\x01\x01",
        b"\xda\xbb\xc2\x00",
        b"x\x01\x00\x00",
        b'[1,"',
        b"\x00\x00\x00\x10\x80\x01",
    ],
)
def test_what_is_not_http_is_not_taken(wire: bytes) -> None:
    kinds = [PLUGIN.detect(wire[:size], NO_HINT).kind for size in range(len(wire) + 1)]
    assert VerdictKind.YES not in kinds
    assert kinds[-1] is VerdictKind.NO
    first = kinds.index(VerdictKind.NO)
    assert set(kinds[first:]) == {VerdictKind.NO}


def test_an_agreed_protocol_settles_it() -> None:
    assert PLUGIN.detect(b"", Hint(tls=True, alpn="http/1.1")) is YES
    assert PLUGIN.detect(b"GET / HTTP/1.1\r\n", Hint(tls=True, alpn="h2")) is NO
    assert PLUGIN.detect(b"GET /", Hint(tls=True)) is YES


def test_all_rules_of_the_kit_hold() -> None:
    recorded = []
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json")):
        for connection in json.loads(path.read_text())["connections"]:
            start = next(f["offset"] for f in connection["frames"] if f["kind"] == "request")
            sent = "".join(s.get("hex", "") for s in connection["segments"] if s["dir"] == "c2s")
            recorded.append(bytes.fromhex(sent)[start:])
    check_codec(PLUGIN, samples=Samples(recorded=tuple(recorded)))


def test_the_plugin_says_what_it_can_do() -> None:
    assert isinstance(PLUGIN, RestoringPlugin)
    assert isinstance(PLUGIN, SupportsNativeStatus)
    assert PLUGIN.status_of(404) is Status.NOT_FOUND
    assert PLUGIN.traits.family == "web"
    local = ResponseHead(status=Status.NOT_FOUND)
    assert PLUGIN.code_of(local) == 404
