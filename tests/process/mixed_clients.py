"""Clients of ``mixed.py``: one function a protocol, each asking in a loop and comparing every answer."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs
import grpc
import h2.config
import h2.connection
import h2.events
import websockets.asyncio.client

from tests.process import grpc_echo
from tests.process.product import PATIENCE
from tests.process.upstreams import pieces

NAME: Final = "mixed.test"
"""What the proxy's certificate is for, and the host of web requests."""
TUNNEL: Final = "tunnel.test:7"
"""What CONNECT asks for."""
_REQUESTS: Final = 50
"""Made on a connection before the next one is opened."""
_LARGEST: Final = 40_000
"""Bytes of a body."""
_STREAMS: Final = 8
"""HTTP/2 requests in flight on a connection."""
_RPC_LOAD: Final = ("-c", "2", "-p", "4")
"""Connections of each rpcload, and requests in flight on each: more would leave nothing to the others."""


@attrs.define(eq=False)
class Tally:
    """What became of a client's requests."""

    requests: int = 0
    errors: int = 0
    """Failed, or not answered."""
    mismatches: int = 0
    """Answered with something else than was due."""
    last: str = ""
    """What the last failure was."""

    def note(self, good: bool, what: str = "another answer than was due") -> None:
        self.requests += 1
        if not good:
            self.mismatches += 1
            self.last = what

    def fail(self, error: BaseException) -> None:
        self.errors += 1
        self.last = repr(error)


@attrs.frozen(kw_only=True)
class Target:
    """How a client reaches the proxy."""

    port: int
    authority: Path | None
    """What to trust; None: in clear text."""
    over: threading.Event
    seconds: float
    """How long it is to last …"""
    began: float = attrs.field(factory=time.monotonic)
    """… from when on."""
    rpcload: Path
    random: random.Random

    @property
    def left(self) -> float:
        """Seconds until it is over, for programs that want to know before: less if one is started again."""
        return max(1.0, self.began + self.seconds - time.monotonic())

    def context(self, *alpn: str) -> ssl.SSLContext | None:
        """Return what TLS connections are made with."""
        if self.authority is None:
            return None
        found = ssl.create_default_context(cafile=str(self.authority))
        if alpn:
            found.set_alpn_protocols(list(alpn))
        return found

    def dial(self, *alpn: str) -> socket.socket:
        """Connect."""
        raw = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        context = self.context(*alpn)
        if context is None:
            return raw
        try:
            return context.wrap_socket(raw, server_hostname=NAME)
        except BaseException:
            raw.close()
            raise

    def bytes(self) -> bytes:
        """Return something to send that nobody else sends."""
        return self.random.randbytes(self.random.randint(1, _LARGEST))

    def turns(self) -> Iterator[int]:
        """Count the requests of one connection."""
        for number in range(_REQUESTS):
            if self.over.is_set():
                return
            yield number


Client = Callable[[Target, Tally], None]


def http1(target: Target, tally: Tally) -> None:
    """Alternate between uploads and chunked downloads, on connections kept open."""
    with closing(target.dial("http/1.1")) as sock:
        connection = http.client.HTTPConnection(NAME, timeout=PATIENCE)
        connection.sock = sock
        for turn in target.turns():
            if turn % 2:
                size = target.random.randint(0, _LARGEST)
                connection.request("GET", f"/chunked/{size}")
                answer = connection.getresponse()
                tally.note(answer.read() == b"".join(pieces(size)) and answer.status == 200)
            else:
                body = target.bytes()
                connection.request("POST", "/", body)
                told = connection.getresponse().read().decode()
                tally.note(told.startswith(f"{len(body)} {hashlib.sha256(body).hexdigest()} "))


def http2(target: Target, tally: Tally) -> None:
    """Upload on several streams at once; the answers come as they like."""
    with closing(target.dial("h2")) as sock:
        state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        state.initiate_connection()
        for _ in target.turns():
            bodies = [target.bytes()[:8000] for _ in range(_STREAMS)]
            answers: dict[int, bytes] = {}
            for body in bodies:
                stream = state.get_next_available_stream_id()
                head = ((":method", "POST"), (":path", "/"), (":scheme", "http"))
                state.send_headers(stream, (*head, (":authority", NAME)))
                state.send_data(stream, body, end_stream=True)
                answers[stream] = b""
            unfinished = set(answers)
            sock.sendall(state.data_to_send())
            while unfinished:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionError("closed with streams open")
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        answers[event.stream_id] += event.data
                        state.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                    elif isinstance(event, h2.events.StreamEnded):
                        unfinished.discard(event.stream_id)
                    elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                        raise ConnectionError(repr(event))
                sock.sendall(state.data_to_send())
            for body, answer in zip(bodies, answers.values(), strict=True):
                told = f"{len(body)} {hashlib.sha256(body).hexdigest()} "
                tally.note(answer.decode().startswith(told))


def grpc_calls(target: Target, tally: Tally) -> None:
    """Make unary calls and hold conversations."""
    address, options = (
        f"127.0.0.1:{target.port}",
        (
            ("grpc.default_authority", NAME),
            ("grpc.ssl_target_name_override", NAME),
            ("grpc.use_local_subchannel_pool", 1),
        ),
    )
    if target.authority is None:
        channel = grpc.insecure_channel(address, options=options)
    else:
        trusted = grpc.ssl_channel_credentials(target.authority.read_bytes())
        channel = grpc.secure_channel(address, trusted, options=options)
    with channel:
        say: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(grpc_echo.SAY)
        chat: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(grpc_echo.CHAT)
        for turn in target.turns():
            if turn % 5:
                message = target.bytes()
                answer, call = say.with_call(message, timeout=PATIENCE)
                length = dict(call.trailing_metadata()).get("length")
                tally.note(answer == message and length == str(len(message)))
            else:
                messages = [target.bytes() for _ in range(5)]
                tally.note(list(chat(iter(messages), timeout=PATIENCE)) == messages)


def websocket(target: Target, tally: Tally) -> None:
    """Send texts and bytes and get them back."""
    # Not websockets' client for threads: its two use one ssl.SSLSocket at a time, which Python before 3.13 does not
    # allow; where TLS 1.3 tickets meet the handshake, both wait for ever, without any proxy too.
    asyncio.run(_websocket(target, tally))


async def _websocket(target: Target, tally: Tally) -> None:
    context = target.context("http/1.1")
    async with websockets.asyncio.client.connect(
        f"{'ws' if context is None else 'wss'}://{NAME}:{target.port}/socket",
        host="127.0.0.1",
        port=target.port,
        ssl=context,
        proxy=None,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
        ping_interval=None,  # a busy machine may be late
    ) as connection:
        for turn in target.turns():
            message = target.bytes().hex() if turn % 2 else target.bytes()
            await connection.send(message)
            async with asyncio.timeout(PATIENCE):
                tally.note(await connection.recv() == message)


def tunnel(target: Target, tally: Tally) -> None:
    """Ask for a tunnel by CONNECT and get back what is sent into it."""
    with closing(target.dial("http/1.1")) as sock:
        sock.sendall(f"CONNECT {TUNNEL} HTTP/1.1\r\nHost: {TUNNEL}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte:
                raise ConnectionError(f"closed after {head!r}")
            head += byte
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head.decode())
        _echo(sock, target, tally)


def raw(target: Target, tally: Tally) -> None:
    """Speak no protocol that anybody knows and get it back."""
    with closing(target.dial()) as sock:
        sock.sendall(b"\xff")
        tally.note(sock.recv(1) == b"\xff")
        _echo(sock, target, tally)


def _echo(sock: socket.socket, target: Target, tally: Tally) -> None:
    for _ in target.turns():
        message, answer = target.bytes(), b""
        sock.sendall(message)
        while len(answer) < len(message):
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("closed in the middle")
            answer += data
        tally.note(answer == message)


def rpc(protocol: str) -> Client:
    """Return rpcload as a client: it checks id, status, each byte, and a nonce that the server must echo."""

    def load(target: Target, tally: Tally) -> None:
        left = target.left
        command = [
            *(str(target.rpcload), "load", "-proto", protocol, "-port", str(target.port)),
            *(*_RPC_LOAD, "-nonce", "-d", f"{left:g}"),
        ]
        done = subprocess.run(
            command, capture_output=True, timeout=left + 4 * PATIENCE, check=False
        )
        said = json.loads(done.stdout)
        if "requests" not in said:
            raise ConnectionError(str(said))
        tally.requests += said["requests"]
        tally.mismatches += said["mismatches"]
        failed = ("errors", "failed_inflight", "unanswered", "closes_idle", "connect_errors")
        tally.errors += sum(said[name] for name in failed)
        tally.last = str({name: said[name] for name in failed if said[name]} or "")
        target.over.wait(PATIENCE)

    return load


CLIENTS: Final[dict[str, Client]] = {
    "HTTP/1.1": http1,
    "HTTP/2": http2,
    "gRPC": grpc_calls,
    "WebSocket": websocket,
    "CONNECT tunnel": tunnel,
    "unknown bytes": raw,
    "Bolt v1": rpc("bolt"),
    "Bolt v2": rpc("bolt2"),
    "Dubbo": rpc("dubbo"),
    "Thrift": rpc("thrift"),
    "xs1 (plugin)": rpc("xs1"),
}
RPC: Final = {
    "Bolt v1": "bolt",
    "Bolt v2": "bolt2",
    "Dubbo": "dubbo",
    "Thrift": "thrift",
    "xs1 (plugin)": "xs1",
}
"""Those that rpcload makes, with its name of them: it has no TLS of its own."""


def drive(client: Client, target: Target, tally: Tally) -> None:
    """Run a client again and again until it is over; what it cannot go on from counts as one failed request."""
    while not target.over.is_set():
        try:
            client(target, tally)
        except Exception as exc:  # whatever it is, it is a failure of the proxy until explained
            tally.fail(exc)
            target.over.wait(0.1)
