from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from tests.transport.tls.kit import authority, server_context
from xproxy.transport.tls import keylog as module
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.libssl import Context, LibsslUnusable


def hello(context: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Shake hands in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = context.wrap_bio(down, up, server_hostname="edge.test")
    for side in (theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass


def contexts(log: KeyLog) -> tuple[Context, ssl.SSLContext]:
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(authority().ca))
    log.use_in(context)
    return context, server_context()


def test_each_line_is_taken_once() -> None:
    log = KeyLog()
    assert log.take() == b""
    pair = contexts(log)
    for _ in range(2):
        hello(*pair)
        text = log.take()
        assert {line.split()[0] for line in text.splitlines()} >= {
            b"CLIENT_TRAFFIC_SECRET_0",
            b"SERVER_TRAFFIC_SECRET_0",
        }
        assert log.take() == b""


def test_a_file_in_memory_where_openssl_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unusable() -> None:
        raise LibsslUnusable("not here")

    monkeypatch.setattr(module, "libssl", unusable)
    log = KeyLog()
    pair = contexts(log)
    path = pair[0].keylog_filename
    assert os.readlink(path).startswith("/memfd:")
    for _ in range(2):
        hello(*pair)
        assert b"CLIENT_TRAFFIC_SECRET_0 " in log.take()
        assert log.take() == b""
        assert Path(path).stat().st_size == 0
