"""The table of errors says what the codecs do."""

from __future__ import annotations

import importlib

import pytest

from tests.docs.pages import ROOT
from tests.docs.tables import code, table
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model import errors
from xproxy.model.errors import StreamError
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.traits import Role
from xproxy.stream.exchange import error_head

PAGE = ROOT / "docs" / "explanation" / "errors.md"
ROWS = table(PAGE, "what happened", "class", "status", "HTTP/1.1", "Bolt", "xs1", "flag")
WEB = RequestHead(service="a", method="GET", extra=Target(path="/"))
RPC = RequestHead(service="a", method="b")


@pytest.fixture
def xs1(monkeypatch: pytest.MonkeyPatch) -> CodecPlugin:
    monkeypatch.syspath_prepend(str(ROOT / "plugins" / "xproxy-sample"))
    plugin: CodecPlugin = importlib.import_module("xproxy_sample.codec").PLUGIN
    return plugin


def told(plugin: CodecPlugin, request: RequestHead, error: StreamError) -> int | None:
    """Return the code that a client reads when the proxy answers with ``error``."""
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    server = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    server.receive(client.send(Head(1, request, b"", end=True)))
    answer = client.receive(server.send(Head(1, error_head(error), b"", end=True)))[0]
    assert isinstance(answer, Head)
    assert isinstance(answer.message, ResponseHead)
    return answer.message.native_status


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
        str(told(HTTP1, WEB, error)),
        str(told(BOLT, RPC, error)),
        str(told(xs1, RPC, error)),
        error.flag,
    )
    assert found == tuple(row[2:])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: code(row[1]))
def test_l4_has_no_word_for_it(row: list[str]) -> None:
    error: StreamError = getattr(errors, code(row[1]))("what was wrong")
    server = OPAQUE.open(Role.SERVER, DEFAULT_LIMITS)
    server.receive(b"")
    assert server.send(Head(1, error_head(error), b"", end=True)) == b""
