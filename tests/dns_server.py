"""A DNS server, UDP and TCP, in a process of its own: ``python -m tests.dns_server ZONE`` prints its port.

The zone is a JSON file that is read for each question, so that a test changes it by renaming another one over it:
``{"a.test. A": {"ttl": 5, "records": ["10.0.0.1"]}}``. Instead of records: ``"rcode": "SERVFAIL"``; ``"drop": true``
for no answer at all; ``"truncate": true`` for one that is whole over TCP only. A name that is nowhere is NXDOMAIN.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ROOT = Path(__file__).parents[1]


def answer(zone: dict[str, Any], query: bytes, *, over_tcp: bool) -> bytes | None:
    asked = dns.message.from_wire(query)
    response = dns.message.make_response(asked)
    (question,) = asked.question
    name = question.name.to_text().lower()
    entry = zone.get(f"{name} {question.to_text().split()[-1]}")
    if entry is None:
        known = any(key.split()[0] == name for key in zone)
        response.set_rcode(dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN)
        return response.to_wire()
    if entry.get("drop"):
        return None
    if "rcode" in entry:
        response.set_rcode(dns.rcode.from_text(entry["rcode"]))
    elif entry.get("truncate") and not over_tcp:
        response.flags |= dns.flags.TC
    else:
        kind = question.to_text().split()[-1]
        response.answer.append(
            dns.rrset.from_text(name, entry["ttl"], "IN", kind, *entry["records"])
        )
    return response.to_wire()


def main(path: str) -> None:
    def zone() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(path).read_text())
        return found

    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    while True:  # the same port for both
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
            break
        except OSError:
            udp.close()
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp.listen()

    def serve_tcp() -> None:
        while True:
            connection, _ = tcp.accept()
            with connection, connection.makefile("rb") as file:
                length = int.from_bytes(file.read(2), "big")
                said = answer(zone(), file.read(length), over_tcp=True)
                if said is not None:
                    connection.sendall(len(said).to_bytes(2, "big") + said)

    threading.Thread(target=serve_tcp, daemon=True).start()
    print(udp.getsockname()[1], flush=True)
    while True:
        query, where = udp.recvfrom(65535)
        said = answer(zone(), query, over_tcp=False)
        if said is not None:
            udp.sendto(said, where)


@attrs.frozen
class DnsServer:
    """The server at work."""

    port: int
    path: Path

    def say(self, **zone: object) -> None:
        """Answer so from now on; ``a_test__A`` is ``a.test. A``."""
        self.put({key.replace("__", ". ").replace("_", "."): value for key, value in zone.items()})

    def put(self, zone: dict[str, object]) -> None:
        """Answer so from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(zone))
        os.replace(new, self.path)


def records(*found: str, ttl: int = 1) -> dict[str, object]:
    """Return what a zone has of a name."""
    return {"ttl": ttl, "records": found}


@contextmanager
def dns_server(folder: Path) -> Iterator[DnsServer]:
    """Run one, with a zone in ``folder``."""
    path = folder / "zone.json"
    path.write_text("{}")
    command = [sys.executable, "-m", "tests.dns_server", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield DnsServer(int(process.stdout.readline()), path)
        finally:
            process.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
