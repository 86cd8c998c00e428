"""A client that keeps the proxy waiting is closed in time, in every state, and the timeout has a name."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.product import PATIENCE, Product, eventually, product, read_to_reset
from tests.process.slowloris import (
    BOLT,
    DOWNLOAD,
    HEAD,
    UPLOAD,
    attackers,
    configuration,
    good_client,
    work_alone,
)
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow

SHORT = "{detect: 3s, head: 500ms, body: 500ms, idle: IDLE, write: 500ms, stream_idle: 5m, linger: 50ms}"
"""Short against ``PATIENCE``. What counts from the connection on is long enough for this process to be stalled for a
while before it says a word; what counts from its first byte on begins when all that it says is there."""
WORK = 20
"""Times the work for a good client alone, within which one beside them is answered: the median."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


@pytest.fixture(scope="module")
def proxy(web: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(
        configuration(web, web, SHORT.replace("IDLE", "500ms")),
        tmp_path_factory.mktemp("slowloris"),
    ) as found:
        yield found


def until_closed(client: socket.socket) -> bytes:
    """Read to the end; returns what came."""
    client.settimeout(PATIENCE)
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


@pytest.mark.parametrize(
    ("sent", "counter", "told"),
    [
        (b"", "downstream_cx_unknown_protocol", b""),
        (b"GE", "downstream_cx_unknown_protocol", b""),
        (b"\x01", "downstream_cx_unknown_protocol", b""),
        (HEAD, "downstream_cx_head_timeout", b"(timeouts.head)"),
        (HEAD + b"x", "downstream_cx_head_timeout", b"(timeouts.head)"),
        (HEAD + b"\r\n" + HEAD, "downstream_cx_head_timeout", b"(timeouts.head)"),
        (HEAD + b"\r\n", "downstream_cx_idle_timeout", b"200 OK"),
        (UPLOAD, "statuses.deadline-exceeded", b"(timeouts.body)"),
        (BOLT, "downstream_cx_head_timeout", b""),
        (BOLT[:10], "downstream_cx_head_timeout", b""),
    ],
    ids=[
        "no byte",
        "half a detection prefix",
        "half a magic number",
        "half a head",
        "half a line",
        "half a second head",
        "nothing after an answer",
        "half a body",
        "half a bolt body",
        "half a bolt head",
    ],
)
def test_it_is_closed_by_the_named_timeout(
    proxy: Product, sent: bytes, counter: str, told: bytes
) -> None:
    before = proxy.stat(f"listener.edge.{counter}")
    with connect(proxy.port) as client:
        client.sendall(sent)
        assert told in until_closed(client)
    assert proxy.stat(f"listener.edge.{counter}") == before + 1
    proxy.settled()
    if counter == "downstream_cx_unknown_protocol":
        assert "(timeouts.detect)" in proxy.said()


@pytest.mark.parametrize("state", ["size", "chunked"])
def test_a_client_that_never_reads_is_cut_off(proxy: Product, state: str) -> None:
    before = proxy.stat("listener.edge.downstream_cx_write_timeout")
    request = DOWNLOAD.replace(b"/size/", f"/{state}/".encode())
    with connect(proxy.port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(request)
        eventually(
            lambda: proxy.stat("listener.edge.downstream_cx_write_timeout") == before + 1,
            "downstream_cx_write_timeout",
        )
        # And it sees that it was: never a clean end.
        assert read_to_reset(client)
    proxy.settled()


def drip(client: socket.socket, data: bytes, pause: float) -> int:
    """Send byte by byte until it is closed; returns how many were sent."""
    client.settimeout(pause)
    at = 0
    try:
        for at in range(len(data)):  # it is the result
            client.sendall(data[at : at + 1])
            try:
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            client.settimeout(PATIENCE)
            while client.recv(65536):
                pass
            break
    except ConnectionError:
        pass
    return at


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (b"G" * 200, "downstream_cx_unknown_protocol"),
        (HEAD + b"x" * 200, "downstream_cx_head_timeout"),
    ],
)
def test_a_byte_now_and_then_gains_no_time(proxy: Product, data: bytes, counter: str) -> None:
    before = proxy.stat(f"listener.edge.{counter}")
    with connect(proxy.port) as client:
        if data.startswith(HEAD):
            client.sendall(HEAD)
            data = data[len(HEAD) :]
        # Ten bytes in the time that it has, or fewer on a busy machine.
        assert drip(client, data, 0.05) < 100
    assert proxy.stat(f"listener.edge.{counter}") == before + 1


def test_many_at_once_are_closed_and_a_good_client_is_served(web: int, tmp_path: Path) -> None:
    counters = (
        "downstream_cx_unknown_protocol",
        "downstream_cx_head_timeout",
        "downstream_cx_write_timeout",
        "statuses.deadline-exceeded",
    )
    # A good client that gets no processor for a while must not be taken for a silent one.
    text = SHORT.replace("IDLE", "5m")
    with upstream("web") as good, product(configuration(good, web, text), tmp_path) as proxy:
        alone = work_alone(proxy, proxy.port)
        with attackers(proxy.port, 200):
            # slowloris.py measures what it takes by the clock on the wall, with 2,000. Here it is work, the least of
            # three: who waits longer, for a busy machine, has more of the others' counted in.
            taken = min(
                statistics.median(good_client(proxy.port, 2.5, proxy.work)) for _ in range(3)
            )
            for counter in counters:
                eventually(lambda c=counter: proxy.stat(f"listener.edge.{c}") >= 30, counter)  # type: ignore[misc]  # bound
        assert taken < WORK * alone
        proxy.settled()
