"""The table of errors says what the codecs do."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import pytest

from tests.docs.crimes import CRIMES, verdict
from tests.docs.pages import ROOT
from tests.docs.tables import code, table
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.model import errors
from xproxy.model.errors import StreamError
from xproxy.model.frames import Frame, Head, Reply
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.traits import Role
from xproxy.stream.exchange import error_head

PAGE = ROOT / "docs" / "explanation" / "errors.md"
HEAD = (
    "what happened",
    "class",
    "status",
    "HTTP",
    "gRPC",
    "Bolt",
    "Dubbo",
    "Thrift",
    "xs1",
    "flag",
)
ROWS = table(PAGE, *HEAD)
WEB = RequestHead(service="a", method="GET", extra=Target(path="/"))
CALL = RequestHead(
    service="a",
    method="POST",
    headers=Headers((("content-type", "application/grpc"), ("te", "trailers"))),
    extra=Target(path="/a.B/c"),
)
RPC = RequestHead(service="a", method="b")


@pytest.fixture
def xs1(monkeypatch: pytest.MonkeyPatch) -> CodecPlugin:
    monkeypatch.syspath_prepend(str(ROOT / "plugins" / "xproxy-sample"))
    plugin: CodecPlugin = importlib.import_module("xproxy_sample.codec").PLUGIN
    return plugin


def told(
    plugin: CodecPlugin, request: RequestHead, error: StreamError, body: bytes = b""
) -> ResponseHead:
    """Return what a client reads when the proxy answers with ``error``."""
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    server = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    first = owed(client.receive(b""))
    asked = server.receive(first + client.send(Head(1, request, body, end=True)))
    answer = owed(asked) + server.send(Head(1, error_head(error), b"", end=True))
    (head,) = (frame for frame in client.receive(answer) if isinstance(frame, Head))
    assert isinstance(head.message, ResponseHead)
    return head.message


def owed(frames: Sequence[Frame]) -> bytes:
    """Return what a codec says of its own accord."""
    return b"".join(frame.data for frame in frames if isinstance(frame, Reply))


def test_every_error_has_its_row() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, StreamError)
    }
    assert {code(row[1]) for row in ROWS} == classes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: code(row[1]))
def test_an_error_is_told_as_the_table_says(row: list[str], xs1: CodecPlugin) -> None:
    error: StreamError = getattr(errors, code(row[1]))("what was wrong")
    found = (
        error.status.name,
        str(told(HTTP1, WEB, error).native_status),
        told(HTTP2, CALL, error).headers.get("grpc-status"),
        str(told(BOLT, RPC, error).native_status),
        str(told(DUBBO, RPC, error, b"\x00").native_status),
        str(told(THRIFT, RPC, error, b"\x00").native_status),
        str(told(xs1, RPC, error).native_status),
        error.flag,
    )
    assert found == tuple(row[2:])
    assert told(HTTP2, WEB, error).native_status == told(HTTP1, WEB, error).native_status


@pytest.mark.parametrize("row", ROWS, ids=lambda row: code(row[1]))
def test_l4_has_no_word_for_it(row: list[str]) -> None:
    error: StreamError = getattr(errors, code(row[1]))("what was wrong")
    server = OPAQUE.open(Role.SERVER, DEFAULT_LIMITS)
    server.receive(b"")
    assert server.send(Head(1, error_head(error), b"", end=True)) == b""


CRIME_ROWS = table(PAGE, "what the client sends", *CRIMES)


def test_every_crime_has_its_row() -> None:
    assert {row[0] for row in CRIME_ROWS} == {crime for by in CRIMES.values() for crime in by}


@pytest.mark.parametrize("protocol", CRIMES)
@pytest.mark.parametrize("row", CRIME_ROWS, ids=lambda row: row[0])
def test_what_the_client_does_wrong(protocol: str, row: list[str], xs1: CodecPlugin) -> None:
    cell = row[1 + list(CRIMES).index(protocol)]
    data = CRIMES[protocol].get(row[0])
    if data is None:
        assert cell == "–"
        return
    plugins: dict[str, CodecPlugin] = {
        "HTTP/1.1": HTTP1,
        "HTTP/2": HTTP2,
        "Bolt": BOLT,
        "Dubbo": DUBBO,
        "Thrift": THRIFT,
        "xs1": xs1,
    }
    assert verdict(plugins[protocol], row[0], data) == cell
