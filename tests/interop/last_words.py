"""A server that answers at once and closes, whatever is still on its way to it: ``python last_words.py [CERT KEY]``.

Prints its port. Nothing of a body is read, so the kernel resets the connection behind the answer. ``/413`` is
answered with 413, and so on. A WebSocket is granted, told ``enough`` once its client speaks, and left in the same
way; on ``/orderly`` it is closed as its protocol says, and read until its client has heard. With CERT and KEY: TLS.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import sys
from typing import Final

from websockets.http11 import Request
from websockets.server import ServerProtocol

ENOUGH: Final = "enough"
ORDERLY: Final = 4002
"""The code of the close frame."""
BODY: Final = b"no more of this\n"


class Refuse(socketserver.BaseRequestHandler):
    """See the module."""

    def handle(self) -> None:
        """Serve one request, and the connection is over."""
        sock: socket.socket = self.request
        # Or the kernel might hold the answer back, behind TLS's tickets, and drop it with the connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(sys.argv) > 1:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[1], sys.argv[2])
            sock = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                data = sock.recv(1024)
                if not data:
                    return
                head += data
            if b"websocket" in head.lower():
                _leave(sock, head)
            else:
                code = head.split()[1].strip(b"/")
                sock.sendall(
                    b"HTTP/1.1 %b No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                    % (code, len(BODY), BODY)
                )

    def finish(self) -> None:
        """Leave at once."""


def _leave(sock: socket.socket, head: bytes) -> None:
    """Open a WebSocket and end it."""
    protocol = ServerProtocol()
    protocol.receive_data(head)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    sock.sendall(b"".join(protocol.data_to_send()))
    protocol.receive_data(sock.recv(1024))
    protocol.send_text(ENOUGH.encode())
    if request.path == "/orderly":
        protocol.send_close(ORDERLY)
    sock.sendall(b"".join(protocol.data_to_send()))
    while request.path == "/orderly" and protocol.close_rcvd is None and (data := sock.recv(65536)):
        protocol.receive_data(data)
        protocol.events_received()


class Server(socketserver.ThreadingTCPServer):
    """A thread a connection, which is closed without a ``shutdown``."""

    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: object) -> None:
        """Close it: what has not been read resets it."""
        assert isinstance(request, socket.socket)
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of broken connections."""


def main() -> None:
    """Serve until killed."""
    with Server(("127.0.0.1", 0), Refuse) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
