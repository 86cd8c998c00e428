"""Clients that keep the proxy waiting in every state there is, many at once, and what a good client feels of it.

``python tests/process/slowloris.py [COUNT]`` runs the proxy, measures a good client without and with COUNT (2,000) of
them, and prints both medians. The tests use the same with fewer.
"""

from __future__ import annotations

import itertools
import math
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.process.product import Product, product  # noqa: E402  # the path is set above
from tests.process.upstreams import upstream  # noqa: E402  # as above

HEAD: Final = b"GET /size/100 HTTP/1.1\r\nHost: a\r\n"
GOOD: Final = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD: Final = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"
DOWNLOAD: Final = b"GET /size/100000000 HTTP/1.1\r\nHost: a\r\n\r\n"
BOLT: Final = bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 00000004")
STATES: Final[dict[str, bytes]] = {
    "no byte": b"",
    "half a detection prefix": b"GE",
    "half a head": HEAD,
    "half a body": UPLOAD,
    "half a bolt frame": BOLT,
    "never reading": DOWNLOAD,
}
"""What is sent; after it nothing more, and nothing is read either."""


def configuration(good: int, bad: int, timeouts: str) -> str:
    """Return the proxy's configuration: the good client's requests go to an upstream of their own."""
    return (
        "listeners:\n"
        f"  - {{name: edge, address: '127.0.0.1:0', routes: main, timeouts: {timeouts}}}\n"
        "routes: {main: [{match: {path: /good}, cluster: good}, {cluster: bad}]}\n"
        "clusters:\n"
        f"  good: {{endpoints: ['127.0.0.1:{good}']}}\n"
        f"  bad: {{endpoints: ['127.0.0.1:{bad}'],"
        " circuit_breakers: {max_connections: 10000, max_requests: 10000}}\n"
    )


async def attack(port: int, count: int) -> None:
    """Hold ``count`` connections in all states; one that is closed is made anew. Prints a line when all are there."""
    ready = 0
    # Not all at one moment: that would only fill the kernel's queue, and measure its retransmissions.
    connecting = trio.CapacityLimiter(64)

    async def hold(state: bytes) -> None:
        nonlocal ready
        first = True
        while True:
            try:
                async with connecting:
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.1)
                continue
            async with stream:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                try:
                    await stream.send_all(state)
                    if first:
                        first = False
                        ready += 1
                        if ready == count:
                            print("ready", flush=True)
                    if state is DOWNLOAD:
                        await trio.sleep_forever()
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass

    async with trio.open_nursery() as nursery:
        for state in itertools.islice(itertools.cycle(STATES.values()), count):
            nursery.start_soon(hold, state)


def good_client(
    port: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Make requests one after the other; returns what each took by ``clock``, in seconds."""
    taken: list[float] = []
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = clock()
            client.sendall(GOOD)
            received = b""
            while not received.endswith(b" /good\n"):
                data = client.recv(65536)
                if not data:
                    raise ConnectionError("the good client was cut off")
                received += data
            if not received.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(f"the good client got {received[:100]!r}")
            taken.append(clock() - begin)
    return taken


def work_alone(proxy: Product, port: int) -> float:
    """Return what the proxy does for one request of a good client that is alone, in seconds: the median.

    What it does for one beside others, for whomever, is told in multiples of it: they are the same on any machine.
    """
    good_client(port, 0.3)
    return min(statistics.median(good_client(port, 0.2, proxy.work)) for _ in range(3))


@contextmanager
def attackers(port: int, count: int) -> Iterator[None]:
    """Hold ``count`` bad clients, from a process of their own, for as long as the block takes."""
    command = [sys.executable, __file__, "attack", str(port), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main() -> None:
    """Print the two medians and their ratio."""
    if sys.argv[1:2] == ["attack"]:
        trio.run(attack, int(sys.argv[2]), int(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * count + 100
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    with (
        tempfile.TemporaryDirectory() as work,
        upstream("web") as good,
        upstream("web") as bad,
        product(configuration(good, bad, "{}"), Path(work)) as proxy,
    ):
        good_client(proxy.port, 1.0)
        rounds = []
        for _ in range(3):
            alone = statistics.median(good_client(proxy.port, 3.0))
            with attackers(proxy.port, count):
                beside = statistics.median(good_client(proxy.port, 3.0))
            rounds.append((alone, beside))
            print(f"p50 alone {alone * 1e6:.0f} µs, beside {count} slow ones {beside * 1e6:.0f} µs")
        ratio = math.prod(b / a for a, b in rounds) ** (1 / len(rounds))
        print(f"ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
