"""New TLS connections at a constant rate: each makes a full handshake, asks once over HTTP/1.1 and ends.

``python handshakes.py PORT --rate R --seconds S`` prints a line of JSON. An open loop: connection k is due at
t0 + k/R whatever became of those before it, and its time counts from when it was due until its answer is complete.
A program of its own, so that its work is not the bench's, and on Python's ``ssl``, so that nothing must be compiled.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import ssl
import time

_GRACE_SECONDS = 5.0
"""What is not answered so long after the last one was due has failed."""
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n"
_OK = b"HTTP/1.1 200 "


class Client:
    """One connection, driven by what its socket is ready for."""

    def __init__(self, context: ssl.SSLContext, port: int, due: float) -> None:
        self.due = due
        self.good = False
        self._asked = self._full = False
        self._answer = b""
        raw = socket.socket()
        raw.setblocking(False)
        raw.connect_ex(("127.0.0.1", port))
        self._context, self._raw = context, raw
        self.socket: socket.socket = raw

    def advance(self) -> int:
        """Go as far as it goes; return the events to wait for, 0 at the end."""
        try:
            if not isinstance(self.socket, ssl.SSLSocket):
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socket = self._context.wrap_socket(
                    self._raw, server_hostname="bench.test", do_handshake_on_connect=False
                )
            if not self._asked:
                self.socket.do_handshake()
                self.socket.send(_REQUEST)
                self._asked = True
                self._full = self.socket.version() == "TLSv1.3" and not self.socket.session_reused
            while data := self.socket.recv(65536):
                self._answer += data
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        except OSError:  # and with it ssl.SSLError
            return 0
        head, _, body = self._answer.partition(b"\r\n\r\n")
        whole = b"content-length: %d\r\n" % len(body) in head.lower() + b"\r\n"
        self.good = self._full and whole and head.startswith(_OK)
        return 0


def run(port: int, rate: float, seconds: float) -> dict[str, float]:
    """Make the load; return what was seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    took: list[float] = []
    errors, opened, wanted = 0, 0, round(rate * seconds)
    started = time.monotonic()
    with selectors.EpollSelector() as selector:
        while opened < wanted or selector.get_map():
            now = time.monotonic()
            if now > started + seconds + _GRACE_SECONDS:
                errors += wanted - opened + len(selector.get_map())
                break
            while opened < wanted and (due := started + opened / rate) <= now:
                client = Client(context, port, due)
                selector.register(client.socket, selectors.EVENT_WRITE, client)
                opened += 1
            pause = max(0.0, started + opened / rate - now) if opened < wanted else 0.1
            for key, _ in selector.select(pause):
                client = key.data
                descriptor = key.fileobj
                if events := client.advance():
                    if (
                        client.socket is not descriptor
                    ):  # the same descriptor, in an object of its own
                        selector.unregister(descriptor)
                        selector.register(client.socket, events, client)
                    elif events != key.events:
                        selector.modify(descriptor, events, client)
                    continue
                selector.unregister(descriptor)
                client.socket.close()
                if client.good:
                    took.append(time.monotonic() - client.due)
                else:
                    errors += 1
        elapsed = time.monotonic() - started
    took.sort()
    return {
        "requests": len(took),
        "seconds": elapsed,
        "errors": errors,
        "p50_us": took[len(took) // 2] * 1e6 if took else 0.0,
        "p99_us": took[len(took) * 99 // 100] * 1e6 if took else 0.0,
    }


def main() -> None:
    """Read the command line and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.port, arguments.rate, arguments.seconds)))


if __name__ == "__main__":
    main()
