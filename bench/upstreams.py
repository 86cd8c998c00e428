"""What the proxies forward to, on the load generator's CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import tools
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES, Lab
from bench.load import Spoken
from bench.processes import Argv, fetch, free_port, running
from bench.proxies.nginx import configuration

GRPC_MESSAGE = b"\0" + RPC_PAYLOAD_BYTES.to_bytes(4) + b"m" * RPC_PAYLOAD_BYTES
"""With the prefix that gRPC gives a message: not compressed, and its length."""
GRPC_PREFIX_BYTES = 5
NONCE_BYTES = 32
"""Digits of a nonce, and of nginx's own ``$request_id``."""
_HTTP2 = " http2"
_STREAMS = 1024
"""Above all that the load has in flight: a proxy may put it on one connection."""
_PLAIN = f'location / {{ default_type text/plain; return 200 "{"x" * BODY_BYTES}"; }}'


@contextmanager
def web(lab: Lab) -> Iterator[int]:
    """Answer every request with 200 and 1,024 bytes: nginx, or rpcload where there is none. Yield the port."""
    try:
        tools.nginx()
    except tools.Missing:
        with rpcload(lab, "http") as port:
            yield port
        return
    with _nginx(lab) as port:
        assert len(fetch(port)) == BODY_BYTES
        yield port


@contextmanager
def http2(lab: Lab) -> Iterator[int]:
    """Answer likewise over HTTP/2 in clear text. Yield the port."""
    with _nginx(lab, _HTTP2) as port:
        yield port


@contextmanager
def grpc(lab: Lab) -> Iterator[int]:
    """Answer every gRPC call with ``GRPC_MESSAGE``, and status 0 in trailers. Yield the port."""
    (lab.work / "message").write_bytes(GRPC_MESSAGE)
    lab.work.chmod(0o711)  # started by root, nginx reads it as somebody else
    # A file answers no POST, but it can be what the refusal is replaced by: text in a configuration has no zeros.
    server = (
        "location / { error_page 405 =200 /message; return 405; } location = /message { internal; "
        f"root {lab.work}; default_type application/grpc; add_trailer grpc-status 0; }}"
    )
    with _nginx(lab, _HTTP2, server) as port:
        yield port


@contextmanager
def unlike(lab: Lab) -> Iterator[int]:
    """Answer with 200 and 1,024 bytes never seen before, first of all the request's ``x-nonce``. Yield the port."""
    body = "$http_x_nonce" + "$request_id" * (BODY_BYTES // NONCE_BYTES - 1)
    fields = "".join(
        f"add_header {name} {value}; "
        for name, value in (
            ("ETag", "'\"$request_id\"'"),
            ("X-Request-Id", "$request_id"),
            ("Set-Cookie", '"seen=$request_id; Path=/"'),
            ("Cache-Control", '"no-cache"'),
        )
    )
    server = f'location / {{ default_type application/json; {fields}return 200 "{body}"; }}'
    with _nginx(lab, server=server) as port:
        yield port


@contextmanager
def grpc_unlike(lab: Lab) -> Iterator[int]:
    """Answer every gRPC call with its nonce and other bytes, and status 0 in trailers. Yield the port."""
    port = free_port()
    size = GRPC_PREFIX_BYTES + RPC_PAYLOAD_BYTES
    argv: Argv = [tools.h2vary(), "serve", "-port", str(port), "-size", str(size)]
    with running(argv, name="h2vary-upstream", cpu=lab.load_cpu, work=lab.work, port=port):
        yield port


@contextmanager
def _nginx(lab: Lab, listen: str = "", server: str = _PLAIN) -> Iterator[int]:
    port = free_port()
    folder = lab.work / f"nginx-upstream-{port}"
    streams = f"http2_max_concurrent_streams {_STREAMS}; " if listen else ""
    block = f"server {{ listen 127.0.0.1:{port}{listen} backlog=4096; {streams}{server} }}"
    argv: Argv = [tools.nginx(), "-p", folder, "-c", configuration(folder, http=block)]
    with running(argv, name="nginx-upstream", cpu=lab.load_cpu, work=lab.work, port=port):
        yield port


@contextmanager
def rpcload(lab: Lab, protocol: Spoken) -> Iterator[int]:
    """Serve web requests, or echo those of an RPC protocol, with rpcload. Yield the port."""
    port = free_port()
    size = BODY_BYTES if protocol == "http" else RPC_PAYLOAD_BYTES
    argv: Argv = [
        *(tools.rpcload(), "serve", "-proto", protocol, "-port", str(port), "-size", str(size))
    ]
    with running(argv, name="rpcload-upstream", cpu=lab.load_cpu, work=lab.work, port=port):
        yield port


@contextmanager
def bulk(lab: Lab) -> Iterator[int]:
    """Write zeros to whoever connects, without end. Yield the port."""
    port = free_port()
    argv: Argv = [tools.rpcload(), "bulkserve", "-port", str(port)]
    with running(argv, name="rpcload-upstream", cpu=lab.load_cpu, work=lab.work, port=port):
        yield port
