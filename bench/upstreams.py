"""What the proxies forward to, on the load generator's CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from bench import tools
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES, Lab
from bench.processes import Argv, fetch, free_port, running
from bench.proxies.nginx import configuration


@contextmanager
def web(lab: Lab) -> Iterator[int]:
    """Answer every request with 200 and 1,024 bytes: nginx, or rpcload where there is none. Yield the port."""
    try:
        tools.nginx()
    except tools.Missing:
        with rpcload(lab, "http") as port:
            yield port
        return
    port = free_port()
    folder = lab.work / f"nginx-upstream-{port}"
    server = (
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ "
        f'default_type text/plain; return 200 "{"x" * BODY_BYTES}"; }} }}'
    )
    argv: Argv = [tools.nginx(), "-p", folder, "-c", configuration(folder, http=server)]
    with running(argv, name="nginx-upstream", cpu=lab.load_cpu, work=lab.work, port=port):
        assert len(fetch(port)) == BODY_BYTES
        yield port


@contextmanager
def rpcload(lab: Lab, protocol: Literal["http", "bolt"]) -> Iterator[int]:
    """Serve web requests, or echo Bolt requests, with rpcload. Yield the port."""
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
