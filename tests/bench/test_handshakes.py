from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.certificate import certificate
from bench.handshakes import run

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(work: Path, answer: bytes) -> Iterator[int]:
    """Answer every TLS client with the same bytes, one at a time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown = certificate(work)
    context.load_cert_chain(shown.chain, shown.key)

    def serve() -> None:
        while True:
            raw, _ = listening.accept()
            with raw:
                raw.settimeout(10)
                with context.wrap_socket(raw, server_side=True) as client:
                    if client.recv(65536) == b"quit":
                        return
                    client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        try:
            yield port
        finally:
            careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
            with (
                socket.create_connection(("127.0.0.1", port), 10) as raw,
                careless.wrap_socket(raw) as last,
            ):
                last.sendall(b"quit")
                thread.join(10)


@pytest.mark.parametrize(
    ("answer", "good"),
    [(ANSWER, 20), (ANSWER[:-1], 0), (ANSWER.replace(b"200", b"500"), 0)],
    ids=["whole", "cut short", "an error"],
)
def test_each_connection_counts_by_its_answer(tmp_path: Path, answer: bytes, good: int) -> None:
    with server(tmp_path, answer) as port:
        seen = run(port, rate=200, seconds=0.1)
    assert (seen["requests"], seen["errors"]) == (good, 20 - good)
    if good:
        assert 0 < seen["p50_us"] <= seen["p99_us"]


def test_who_does_not_speak_tls_is_an_error_and_not_a_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            for _ in range(5):
                client, _ = listening.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        seen = run(listening.getsockname()[1], rate=50, seconds=0.1)
        thread.join(10)
    assert (seen["requests"], seen["errors"]) == (0, 5)
