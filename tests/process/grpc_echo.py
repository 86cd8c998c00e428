"""A gRPC server of the process tests: ``python grpc_echo.py`` prints its port and sends back what it gets.

``/echo.Echo/Say`` answers one message with it, ``/echo.Echo/Chat`` each of a stream as it comes. Messages are bytes:
there is no interface description. An argument is another name for the service.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SAY = "/echo.Echo/Say"
CHAT = "/echo.Echo/Chat"


def _say(message: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("length", str(len(message))),))
    return message


def _chat(messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    yield from messages


def main() -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(32))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(_say),
        "Chat": grpc.stream_stream_rpc_method_handler(_chat),
    }
    service = sys.argv[1] if len(sys.argv) > 1 else "echo.Echo"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
