"""TLS for clients that have none: ``python secured.py PORT CA NAME [ALPN]`` prints a port of its own.

Whatever connects there is carried on to PORT over TLS, whose server must have a certificate of CA for NAME.
"""

from __future__ import annotations

import ssl
import sys

import trio

_PIECE = 65536


async def _pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
    """Carry bytes one way until they end; then both ways are over, as half-closed TLS is not to be had here."""
    while data := await source.receive_some(_PIECE):
        await sink.send_all(data)


async def _carry(plain: trio.SocketStream, port: int, context: ssl.SSLContext, name: str) -> None:
    try:
        async with plain, trio.open_nursery() as nursery:
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            # Ending without a goodbye: what a client gets is for the client to judge.
            secure = trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)
            async with secure:

                async def one(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                    await _pump(source, sink)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(one, secure, plain)
                await one(plain, secure)
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # either side went away


async def main(port: int, ca: str, name: str, alpn: list[str]) -> None:
    """Serve until killed."""
    context = ssl.create_default_context(cafile=ca)
    if alpn:
        context.set_alpn_protocols(alpn)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)

    async def serve(plain: trio.SocketStream) -> None:
        await _carry(plain, port, context, name)

    await trio.serve_listeners(serve, listeners)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
