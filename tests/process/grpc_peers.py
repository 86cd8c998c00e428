"""A gRPC server and what a client can ask of it, by the reference implementation (grpcio), without generated code."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import attrs
import grpc

SERVICE: Final = "lab.Echo"
LARGE: Final = 16 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", LARGE + 1024),
    ("grpc.max_send_message_length", LARGE + 1024),
    ("grpc.max_metadata_size", 60 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
)
PIECE: Final = bytes(range(256)) * 64

Metadata = tuple[tuple[str, str | bytes], ...]


@attrs.define(eq=False)
class Seen:
    """What the server noticed."""

    cancelled: threading.Event = attrs.field(factory=threading.Event)
    started: threading.Event = attrs.field(factory=threading.Event)
    attempts: int = 0
    sent: int = 0
    """Messages that ``Flood`` has handed to the library."""


class Echo:
    """The methods. Each is a plain function of bytes."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Give back the message, and in the trailers the metadata that came."""
        mirrored = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-")]
        context.send_initial_metadata((("x-first", "yes"), ("x-first-bin", b"\x00\xff\x80")))
        context.set_trailing_metadata(tuple(mirrored))
        return request

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Fail with the code that the message names."""
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05details\x00"),))
        code = list(grpc.StatusCode)[int(request)]
        context.abort(code, f"no {code.name}: 100 % bäd \n\t«text»")

    def flaky(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Fail twice as unavailable; in the trailers of a response with a head where the message says so."""
        self.seen.attempts += 1
        if self.seen.attempts % 3:
            if request == b"head first":
                context.send_initial_metadata((("x-first", "yes"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return str(self.seen.attempts).encode()

    def download(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send so many messages; fail after them where the number is odd."""
        for number in range(int(request)):
            yield b"%d %b" % (number, PIECE[: number * 7 % len(PIECE)])
        if int(request) % 2:
            context.abort(grpc.StatusCode.DATA_LOSS, "odd")

    def upload(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> bytes:
        """Return how many messages came, and their digest."""
        digest, count = hashlib.sha256(), 0
        for request in requests:
            digest.update(request)
            count += 1
        return f"{count} {digest.hexdigest()}".encode()

    def chat(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer each message as it comes."""
        for request in requests:
            yield request[::-1]

    def hang(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send one message, then nothing until the client gives up."""
        ended = self._watch(context)
        yield b"begun"
        ended.wait(200)

    def silent(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Send nothing at all until the client gives up."""
        self._watch(context).wait(200)
        return b""

    def stuck(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> bytes:
        """Take nothing of what is sent until the client gives up."""
        self._watch(context).wait(120)
        return b""

    def _watch(self, context: grpc.ServicerContext) -> threading.Event:
        """Note that a call has begun; return what is set when it is over, which is noted too."""
        ended = threading.Event()

        def over() -> None:
            self.seen.cancelled.set()
            ended.set()

        if not context.add_callback(over):
            over()
        self.seen.started.set()
        return ended

    def left(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Return how many milliseconds are left, or that nobody said."""
        remaining = context.time_remaining()
        return b"ever" if remaining is None or remaining > 1e6 else b"%d" % (remaining * 1000)

    def flood(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send as many messages of 64 KiB as the first message says, as fast as they are taken."""
        first = next(iter(requests))
        for _ in range(int(first)):
            self.seen.sent += 1
            yield PIECE * 4


@contextmanager
def server(seen: Seen, *, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    """Run it in threads of this process; gives the port."""
    echo = Echo(seen)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(echo.unary),
        "Fail": grpc.unary_unary_rpc_method_handler(echo.fail),
        "Flaky": grpc.unary_unary_rpc_method_handler(echo.flaky),
        "Download": grpc.unary_stream_rpc_method_handler(echo.download),
        "Upload": grpc.stream_unary_rpc_method_handler(echo.upload),
        "Chat": grpc.stream_stream_rpc_method_handler(echo.chat),
        "Hang": grpc.unary_stream_rpc_method_handler(echo.hang),
        "Silent": grpc.unary_unary_rpc_method_handler(echo.silent),
        "Stuck": grpc.stream_unary_rpc_method_handler(echo.stuck),
        "Left": grpc.unary_unary_rpc_method_handler(echo.left),
        "Flood": grpc.stream_stream_rpc_method_handler(echo.flood),
    }
    pool = ThreadPoolExecutor(max_workers=128)
    running = grpc.server(pool, options=_OPTIONS)
    for service in (SERVICE, "lab.Slow"):
        running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if credentials is None:
        port = running.add_insecure_port("127.0.0.1:0")
    else:
        port = running.add_secure_port("127.0.0.1:0", credentials)
    running.start()
    try:
        yield port
    finally:
        running.stop(grace=None).wait()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def channel(
    port: int, *options: tuple[str, object], credentials: grpc.ChannelCredentials | None = None
) -> Iterator[grpc.Channel]:
    """Give a client's channel with a connection of its own."""
    every = [*_OPTIONS, *options]
    made = (
        grpc.insecure_channel(f"127.0.0.1:{port}", options=every)
        if credentials is None
        else grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=every)
    )
    with made:
        yield made


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def unary(via: grpc.Channel, full: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return via.unary_unary(full)


def download(via: grpc.Channel, method: str) -> grpc.UnaryStreamMultiCallable[bytes, bytes]:
    return via.unary_stream(path(method))


def both_ways(via: grpc.Channel, method: str) -> grpc.StreamStreamMultiCallable[bytes, bytes]:
    return via.stream_stream(path(method))


@attrs.frozen
class Outcome:
    """All that a client can see of a call."""

    messages: tuple[bytes, ...]
    code: grpc.StatusCode
    details: str
    initial: Metadata
    trailing: Metadata


def told(call: grpc.Call, messages: tuple[bytes, ...]) -> Outcome:
    """Return what a finished call came to."""
    return Outcome(
        messages,
        call.code(),
        call.details() or "",
        _of(call.initial_metadata()),
        _of(call.trailing_metadata()),
    )


def _of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    return tuple(sorted((str(key), value) for key, value in metadata or ()))


def ask(
    via: grpc.Channel,
    method: str,
    request: bytes,
    *,
    timeout: float | None = 20.0,
    metadata: Metadata = (),
    compression: grpc.Compression | None = None,
) -> Outcome:
    """Make a unary call."""
    call = unary(via, path(method)).with_call
    try:
        response, done = call(request, timeout=timeout, metadata=metadata, compression=compression)
    except grpc.RpcError as error:
        return told(error, ())  # type: ignore[arg-type]  # every RpcError of a client is a Call
    return told(done, (response,))


def ask_stream(
    via: grpc.Channel, method: str, requests: Iterable[bytes] | bytes, *, timeout: float = 20.0
) -> Outcome:
    """Make a call whose answer is a stream."""
    if isinstance(requests, bytes):
        call = download(via, method)(requests, timeout=timeout)
    else:
        call = both_ways(via, method)(iter(requests), timeout=timeout)
    found: list[bytes] = []
    try:
        found.extend(call)
    except grpc.RpcError:
        pass
    return told(call, tuple(found))


def ask_upload(via: grpc.Channel, requests: Iterable[bytes], *, timeout: float = 20.0) -> Outcome:
    """Make a call whose request is a stream."""
    upload: grpc.StreamUnaryMultiCallable[bytes, bytes] = via.stream_unary(path("Upload"))
    call = upload.with_call
    try:
        response, done = call(iter(requests), timeout=timeout)
    except grpc.RpcError as error:
        return told(error, ())  # type: ignore[arg-type]  # as above
    return told(done, (response,))
