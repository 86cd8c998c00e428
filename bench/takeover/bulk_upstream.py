"""An upstream of long streams: ``python -m bench.takeover.bulk_upstream PORT``. A thread a connection.

Over HTTP/1.1 ``GET /bulk/SEED/SIZE`` gives so many bytes of the pattern, and ``POST`` to any path tells how many
bytes came and their SHA-256. Who begins with the byte 0xff speaks no protocol: a line ``down SEED SIZE`` gives the
bytes, ``up SIZE`` takes so many and tells the same of them in a line.
"""

from __future__ import annotations

import hashlib
import re
import socketserver
import sys
from collections.abc import Mapping

from bench.lab import raise_file_limit
from bench.takeover.pattern import blocks

RAW = b"\xff"
_CHUNK_BYTES = 1 << 18


class Bulk(socketserver.StreamRequestHandler):
    """See the module."""

    rbufsize = _CHUNK_BYTES
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve requests until the client leaves."""
        try:
            while line := self.rfile.readline(1024):
                if line.startswith(RAW):
                    self._raw(line[1:].decode().split())
                else:
                    self._http(line.decode())
        except OSError:
            return  # the proxy has hung up; that is its right

    def _raw(self, words: list[str]) -> None:
        if words[0] == "down":
            for block in blocks(int(words[1]), int(words[2])):
                self.wfile.write(block)
        else:
            self.wfile.write(self._told(int(words[1])) + b"\n")

    def _http(self, line: str) -> None:
        method, target, _ = line.split()
        fields = self._fields()
        if method == "POST":
            told = self._told(int(fields["content-length"]))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
            return
        found = re.fullmatch(r"/bulk/(\d+)/(\d+)", target)
        if found is None:
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        seed, size = int(found[1]), int(found[2])
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for block in blocks(seed, size):
            self.wfile.write(block)

    def _fields(self) -> Mapping[str, str]:
        fields = {}
        while (line := self.rfile.readline(8192).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return fields

    def _told(self, size: int) -> bytes:
        """Take so many bytes; return their count and SHA-256."""
        digest, left = hashlib.sha256(), size
        while left:
            data = self.rfile.read1(min(left, _CHUNK_BYTES))
            if not data:
                raise ConnectionError("ended in the middle")
            digest.update(data)
            left -= len(data)
        return f"{size} {digest.hexdigest()}".encode()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024


def main() -> None:
    """Serve until killed."""
    raise_file_limit()
    with _Server(("127.0.0.1", int(sys.argv[1])), Bulk) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
