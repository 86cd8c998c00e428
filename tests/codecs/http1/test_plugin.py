"""Detection for every prefix, and the kit's whole list of rules."""

from __future__ import annotations

import json
from pathlib import Path

from xproxy.codecs.api import (
    NO,
    YES,
    Hint,
    RestoringPlugin,
    SupportsNativeStatus,
)
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.testing import Samples, check_codec


def test_an_agreed_protocol_settles_it() -> None:
    assert PLUGIN.detect(b"", Hint(tls=True, alpn="http/1.1")) is YES
    assert PLUGIN.detect(b"GET / HTTP/1.1\r\n", Hint(tls=True, alpn="h2")) is NO
    assert PLUGIN.detect(b"GET / HTTP/1.1\r\n", Hint(tls=True)) is YES


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
