"""Real processes take over from one another while bodies flow: every connection is the same, and every byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from tests.process.product import PATIENCE
from tests.process.serving import echo, head, serving
from tests.process.workers import workers
from xproxy.codecs.http_upgrade import accept_for

pytestmark = pytest.mark.slow
TEXT: Final = """
listeners:
  - name: raw
    address: '{0}'
    filters: [{name: access_log, path: LOG, format: json}]
    fallback: {cluster: echo}
  - name: web
    address: '{1}'
    filters: [{name: access_log, path: LOG, format: json}]
    routes: main
routes:
  main:
    - {match: {path: {prefix: /bulk}}, cluster: bulk, timeout: 0}
    - {cluster: chat, allow_upgrade: [websocket]}
clusters:
  echo: {endpoints: ['127.0.0.1:ECHO']}
  chat: {endpoints: ['127.0.0.1:CHAT']}
  bulk: {endpoints: ['127.0.0.1:BULK']}
"""
EACH: Final = 20
"""Connections of a kind."""
UPGRADES: Final = 3
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
WISH: Final = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: " + KEY.encode() + b"\r\nsec-websocket-version: 13\r\n\r\n"
)
SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: " + accept_for(KEY).encode() + b"\r\n\r\n"
)
PIECE: Final = bytes(range(256)) * 256


def chat(connection: socket.socket) -> None:
    head(connection)
    connection.sendall(SWITCH)
    echo(connection)


def exchange(connection: socket.socket, text: bytes) -> None:
    connection.sendall(text)
    got = b""
    while len(got) < len(text):
        data = connection.recv(65536)
        assert data, f"the connection ended before {text!r} came back"
        got += data
    assert got == text


def test_what_flows_goes_from_process_to_process(tmp_path: Path) -> None:
    over = threading.Event()
    sent = hashlib.sha256()

    def bulk(connection: socket.socket) -> None:
        # As long as there are upgrades, at some MiB a second.
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        number = 0
        while not over.is_set():
            piece = b"%8d" % number + PIECE
            connection.sendall(piece)
            sent.update(piece)
            number += 1
            time.sleep(0.005)  # the pace

    got = hashlib.sha256()
    failure: list[BaseException] = []

    def download(connection: socket.socket) -> None:
        try:
            head(connection)
            stream = connection.makefile("rb")
            while size := int(stream.readline(), 16):
                got.update(stream.read(size))
                assert stream.readline() == b"\r\n"
        except BaseException as exc:  # told by the thread that waits for this one
            failure.append(exc)

    log = tmp_path / "access.log"
    with contextlib.ExitStack() as stack:
        ports = {
            name: stack.enter_context(serving(serve))
            for name, serve in (("echo", echo), ("chat", chat), ("bulk", bulk))
        }
        stack.callback(over.set)
        text = TEXT.replace("LOG", str(log))
        for name, port in ports.items():
            text = text.replace(name.upper(), str(port))
        addresses = ("127.0.0.1:0", "127.0.0.1:0")
        them = stack.enter_context(workers(text, tmp_path, addresses))
        raw, web = (sock.getsockname() for sock in them.listening.values())
        old = them.start()

        def connect(where: tuple[str, int]) -> socket.socket:
            return stack.enter_context(socket.create_connection(where, PATIENCE))

        echoes = [connect(raw) for _ in range(EACH)]
        chats = [connect(web) for _ in range(EACH)]
        for one in chats:
            one.sendall(WISH)
            assert head(one).startswith(b"HTTP/1.1 101 ")
        bulky = connect(web)
        bulky.sendall(b"GET /bulk HTTP/1.1\r\nhost: a\r\n\r\n")
        downloading = threading.Thread(target=download, args=(bulky,))
        downloading.start()
        for turn in range(UPGRADES):
            for number, one in enumerate(echoes + chats):
                exchange(one, b"%d of turn %d" % (number, turn))
            new = them.start()
            old.give()
            said = old.wait_for("gone", "withdrawn")
            assert said["why"] == "", said
            assert old.ended() == 0
            assert new.wait_for("alone")["why"] == ""
            old = new
        for number, one in enumerate(echoes + chats):
            exchange(one, b"%d at last" % number)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""
        over.set()
        downloading.join(PATIENCE)
        assert not failure, failure
        assert got.hexdigest() == sent.hexdigest()
        bulky.close()
        deadline = time.monotonic() + PATIENCE
        while log.read_text().count("\n") < 2 * EACH + 1:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.01)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(lines) == 2 * EACH + 1
        assert {line["status"] for line in lines} == {"ok"}
        assert {line.get("response_flags") for line in lines} == {None}
