"""``openssl s_client``: every version, cipher suite and group that is spoken, resumption, key updates, refusals."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.interop.origin import NAME, Origin, configuration, origin
from tests.process.product import PATIENCE, Product, product

pytestmark = [pytest.mark.slow, pytest.mark.tool("openssl"), pytest.mark.tool("nginx")]

REQUEST: Final = f"GET /view HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
KEPT: Final = f"GET /view HTTP/1.1\r\nHost: {NAME}\r\n\r\n"
ANSWER: Final = f"GET /view {NAME}   \n"

WAYS: Final[dict[str, tuple[str, ...]]] = {
    "TLS 1.3": ("-tls1_3",),
    "TLS 1.2": ("-tls1_2",),
    **{
        suite: ("-tls1_3", "-ciphersuites", suite)
        for suite in (
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
        )
    },
    **{
        suite: ("-tls1_2", "-cipher", suite)
        for suite in (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        )
    },
    "X25519": ("-groups", "X25519"),
    "P-256": ("-groups", "P-256"),
    # Offers a key share for a group the server does not want first: a HelloRetryRequest, or not.
    "P-521 first": ("-groups", "P-521:X25519"),
    "no name": ("-noservername",),
    "small records": ("-max_send_frag", "512"),
    "no tickets": ("-no_ticket",),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Origin]:
    with origin() as found:
        yield found


@pytest.fixture(scope="module")
def proxy(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(configuration(server), tmp_path_factory.mktemp("openssl")) as found:
        yield found


def s_client(server: Origin, port: int, *arguments: str, request: str = REQUEST) -> str:
    """Make one request; returns all that openssl says, on both its outputs."""
    command = [
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}"),
        *(("-ign_eof",) if request else ()),
        *("-CAfile", str(server.authority.ca), "-verify_return_error"),
        *(() if "-noservername" in arguments else ("-servername", NAME)),
        *arguments,
    ]
    done = subprocess.run(
        command,
        input=request.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.decode("latin-1")


def lines_of(text: str, *beginnings: str) -> list[str]:
    """Return the lines that say what was agreed."""
    found = [line.strip() for line in text.splitlines()]
    return sorted({line for line in found if line.startswith(beginnings)})


@pytest.mark.parametrize("way", WAYS)
def test_the_same_is_agreed_and_answered(server: Origin, proxy: Product, way: str) -> None:
    direct, proxied = (
        s_client(server, port, *WAYS[way]) for port in (server.tls, proxy.ports["to-plain"])
    )
    agreed = ("New,", "Verification", "Verify return", "Protocol", "Cipher", "GET /view")
    assert ANSWER.strip() in lines_of(proxied, *agreed)
    assert lines_of(proxied, *agreed) == lines_of(direct, *agreed)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1"), ("http/1.0,http/1.1", "http/1.1")],
)
def test_alpn_chooses(server: Origin, proxy: Product, offered: str, chosen: str) -> None:
    said = s_client(server, proxy.ports["to-plain"], "-alpn", offered, request="")
    assert f"ALPN protocol: {chosen}" in said


def test_without_alpn_the_first_bytes_say_what_is_spoken(server: Origin, proxy: Product) -> None:
    said = s_client(server, proxy.ports["to-plain"])
    assert "No ALPN negotiated" in said
    assert ANSWER in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(server: Origin, proxy: Product, tmp_path: Path, version: str) -> None:
    port, session = proxy.ports["to-plain"], str(tmp_path / "session")
    first = s_client(server, port, version, "-sess_out", session)
    again = s_client(server, port, version, "-sess_in", session)
    assert lines_of(first, "New, TLS")
    assert lines_of(again, "Reused, TLS")
    assert ANSWER in again


@pytest.mark.parametrize("command", ["k", "K"], ids=["our keys", "and theirs"])
def test_keys_are_updated_in_the_middle(server: Origin, proxy: Product, command: str) -> None:
    process = subprocess.Popen(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.ports['to-plain']}"),
            *("-tls1_3", "-servername", NAME, "-CAfile", str(server.authority.ca)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    said = b""

    def until(wanted: bytes) -> None:
        nonlocal said
        assert process.stdout is not None
        while wanted not in said:
            data = os.read(process.stdout.fileno(), 65536)
            assert data, said.decode("latin-1")
            said += data

    try:
        for _ in range(3):
            for line, answer in ((f"{command}\n", "KEYUPDATE\n"), (KEPT, ANSWER)):
                process.stdin.write(line.encode())
                process.stdin.flush()
                until(answer.encode())
                said = b""
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "alert"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "alert protocol version"),
        (("-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"), "alert handshake failure"),
        (("-alpn", "no-such-protocol"), "alert no application protocol"),
    ],
    ids=["version", "cipher suite", "protocol"],
)
def test_what_is_not_spoken_gets_an_alert(
    server: Origin, proxy: Product, arguments: tuple[str, ...], alert: str
) -> None:
    assert alert in s_client(server, proxy.ports["to-plain"], *arguments)


def test_nothing_is_left_behind(proxy: Product) -> None:
    proxy.settled()
    assert "Traceback" not in proxy.said()
