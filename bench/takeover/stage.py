"""The proxy and its upstreams: one configuration for all kinds of load, through one port but for L4."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs

from bench import tools
from bench.certificate import certificate
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES
from bench.processes import Argv, Process, fetch, free_port, running
from bench.takeover.processes import descendants, session

_END_SECONDS = 5.0
"""What is left of the proxy's processes may take so long to end after a signal that cannot be caught."""
_WRONG = re.compile(r'Traceback|"level": "(error|critical)"')
_LONGEST_LINE = 2000
_MOST_LINES = 20
_CONFIG = """\
admin: {{address: '127.0.0.1:{admin}'}}
workers: {workers}
listeners:
  - name: edge
    address: 127.0.0.1:{edge}
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
    filters: [{filters}]
    limits: {{max_connections: 65536}}
    backlog: 4096
    routes: main
  - name: l4
    address: 127.0.0.1:{l4}
    codecs: [opaque]
    backlog: 4096
    routes: l4
  - name: l4-bulk
    address: 127.0.0.1:{bulk}
    codecs: [opaque]
    routes: l4-bulk
routes:
  l4:
    - {{cluster: l4, timeout: 0}}
  l4-bulk:
    - {{cluster: bulk-raw, timeout: 0}}
  main:
    - {{match: {{path: /socket}}, cluster: websocket, allow_upgrade: [websocket], timeout: 0}}
    - {{match: {{protocol: grpc}}, cluster: grpc, timeout: 0}}
    - {{match: {{path: {{prefix: /bulk/}}}}, cluster: bulk, timeout: 0}}
    - {{match: {{protocol: [http1, http2]}}, cluster: http}}
    - {{match: {{protocol: bolt}}, cluster: bolt}}
    - {{match: {{protocol: dubbo}}, cluster: dubbo}}
    - {{match: {{protocol: thrift}}, cluster: thrift}}
clusters:
"""
_CODECS = {
    "http": "http1",
    "websocket": "http1",
    "bulk": "http1",
    "grpc": "http2",
    "l4": "opaque",
} | {"bulk-raw": "opaque"}
"""What an upstream speaks, where that is not what the client does."""
RPC = ("http", "bolt", "dubbo", "thrift")
"""Upstreams that are rpcload."""
ECHOES = {"l4": "echo", "websocket": "websocket", "grpc": "grpc"}
"""Upstreams that are ``bench.takeover.upstream``, with what they are called there."""


@attrs.frozen(kw_only=True)
class Setting:
    """Where and how everything runs."""

    work: Path
    python: Path
    tree: Path
    """The checkout whose xproxy runs."""
    proxy_cpu: int | None = None
    load_cpu: int | None = None
    workers: int = 1
    delay_ms: int = 0
    """What the upstreams wait before they answer."""
    stays: bool = False
    """The command replaces no process: none is waited for."""
    access_log: bool = False
    """Write an access log of every request."""

    @property
    def log(self) -> Path:
        """Where it is written."""
        return self.work / "access.log"


@attrs.define(eq=False)
class Stage:
    """A running proxy."""

    setting: Setting
    process: Process
    ports: Mapping[str, int]
    """By listener."""
    admin: int
    config: Path
    authority: Path

    @property
    def pid(self) -> int:
        """Of the process that was started, which stays through every upgrade."""
        return self.process.popen.pid

    def workers(self) -> list[int]:
        """Return the processes below it: those that upgrades replace."""
        return descendants(self.pid)

    def errors(self) -> list[str]:
        """Return the lines of its log that say that something went wrong within it."""
        lines = self.process.log.read_text(errors="replace").splitlines()
        found = [line[:_LONGEST_LINE] for line in lines if _WRONG.search(line)]
        return list(dict.fromkeys(found))[:_MOST_LINES]

    def logged(self) -> int:
        """Return how many whole lines the access log has."""
        log = self.setting.log
        return sum(map(_whole, log.read_bytes().splitlines())) if log.exists() else 0

    def stats(self) -> dict[str, int]:
        """Return all counters and gauges."""
        lines = fetch(self.admin, "/stats").decode().splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}


@contextmanager
def upstreams(setting: Setting) -> Iterator[dict[str, int]]:
    """Run all of them; yields their ports by cluster."""
    delay = setting.delay_ms
    with ExitStack() as stack:
        ports = {}
        for name in (*RPC, *ECHOES):
            ports[name] = port = free_port()
            size = BODY_BYTES if name == "http" else RPC_PAYLOAD_BYTES
            if name in ECHOES:
                argv: Argv = [
                    *(setting.python, "-m", "bench.takeover.upstream", ECHOES[name], str(port)),
                    str(delay),
                ]
            else:
                argv = [
                    *(tools.rpcload(), "serve", "-proto", name, "-port", str(port)),
                    *("-size", str(size), "-delay", str(delay)),
                ]
            stack.enter_context(_started(setting, argv, f"{name}-upstream", port))
        ports["bulk"] = port = free_port()
        argv = [setting.python, "-m", "bench.takeover.bulk_upstream", str(port)]
        stack.enter_context(_started(setting, argv, "bulk-upstream", port))
        yield ports


def _started(setting: Setting, argv: Argv, name: str, port: int) -> AbstractContextManager[Process]:
    return running(
        argv, name=name, cpu=setting.load_cpu, work=setting.work, port=port, cwd=tools.HERE.parent
    )


@contextmanager
def stage(setting: Setting, clusters: Mapping[str, int]) -> Iterator[Stage]:
    """Run the proxy in front of ``upstreams``; leaving ends it and all its processes, whatever happens."""
    shown = certificate(setting.work)
    ports = {name: free_port() for name in ("edge", "l4", "l4-bulk")}
    admin = free_port()
    filters = "request_id, forwarded"
    if setting.access_log:
        filters = f"{{name: access_log, format: json, path: {setting.log}}}, {filters}"
    config = setting.work / f"takeover-{ports['edge']}.yaml"
    text = _CONFIG.format(
        edge=ports["edge"],
        l4=ports["l4"],
        bulk=ports["l4-bulk"],
        admin=admin,
        workers=setting.workers,
        cert=shown.chain,
        key=shown.key,
        filters=filters,
    )
    text += "".join(
        f"  {name}: {{endpoints: ['127.0.0.1:{port}']{_codec(name)}, "
        "circuit_breakers: {max_connections: 65536, max_requests: 65536, max_pending_requests: 65536}}\n"
        for name, port in {**clusters, "bulk-raw": clusters["bulk"]}.items()
    )
    config.write_text(text)
    argv: Argv = [setting.python, "-m", "xproxy", "run", "-c", config]
    with running(
        argv,
        name="xproxy",
        cpu=setting.proxy_cpu,
        work=setting.work,
        port=ports["edge"],
        cwd=setting.tree,
    ) as process:
        made = Stage(setting, process, ports, admin, config, shown.chain)
        with _all_ended(made):
            yield made


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _codec(cluster: str) -> str:
    found = _CODECS.get(cluster)
    return f", codec: {found}" if found else ""


@contextmanager
def _all_ended(made: Stage) -> Iterator[None]:
    """End the workers too: they may have a process group of their own, and go on when the one above them ends."""
    try:
        yield
    finally:
        made.process.popen.send_signal(signal.SIGKILL)  # first, so that it starts no others
        made.process.popen.wait()
        for pid in session(made.pid):
            try:
                file = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(file, signal.SIGKILL)
                select.select([file], [], [], _END_SECONDS)
            except ProcessLookupError:
                pass
            finally:
                os.close(file)


def here(work: Path) -> Setting:
    """Return a setting with nothing special, for this interpreter and this checkout."""
    return Setting(work=work, python=Path(sys.executable), tree=tools.HERE.parent)
