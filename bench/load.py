"""Load: wrk for HTTP/1.1, h2load and h2vary (``h2vary.c``) for HTTP/2, handshakes.py for new TLS connections, rpcload
(``rpcload.c``) for everything else and where wrk is missing.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import attrs
import cattrs

from bench import tools
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES, Lab
from bench.processes import Argv, Failed, pinned, running

Spoken = Literal["http", "bolt", "dubbo", "thrift"]
"""What rpcload speaks."""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
"""In seconds, as h2load writes them."""
_MARGIN_SECONDS = 75.0
"""A load generator may take so much longer than its window: rpcload gives the opening of connections 60 s."""


@attrs.frozen(kw_only=True)
class Load:
    """What a load generator saw."""

    requests: int
    """Answered, also after the end of the window."""
    seconds: float
    errors: int
    """Failed, wrong or unanswered."""
    p50_us: float | None = None
    p99_us: float | None = None
    mean_us: float | None = None
    """What h2load says instead of percentiles."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@attrs.frozen(kw_only=True)
class _WrkReport:
    """The line that ``wrk_report.lua`` prints."""

    requests: int
    duration_us: int
    errors: int
    p50_us: float
    p99_us: float


@attrs.frozen(kw_only=True)
class _RpcloadReport:
    """The fields we read of the line that rpcload prints."""

    requests: int
    seconds: float
    errors: int
    mismatches: int
    failed_inflight: int
    unanswered: int
    connect_errors: int
    p50_us: float
    p99_us: float


@attrs.frozen(kw_only=True)
class _H2varyReport:
    """The fields we read of the line that h2vary prints."""

    requests: int
    seconds: float
    errors: int
    mismatches: int
    p50_us: float
    p99_us: float


@attrs.frozen(kw_only=True)
class Bulk:
    """What rpcload's bulk reader prints."""

    bytes: int
    seconds: float
    bad: int
    """1 if the connection ended early or carried other bytes than were sent."""


@attrs.frozen(kw_only=True)
class Held:
    """What rpcload prints once all its connections are open and have been answered once."""

    ready: int
    """Connections open."""
    answered: int
    errors: int
    mismatches: int


def parse_wrk(text: str) -> Load:
    """Read what wrk printed: its own summary for humans, then our JSON line."""
    report = cattrs.structure(json.loads(text.strip().splitlines()[-1]), _WrkReport)
    return Load(
        requests=report.requests,
        seconds=report.duration_us / 1e6,
        errors=report.errors,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
    )


def parse_h2load(text: str, *, answer_bytes: int) -> Load:
    """Read what h2load printed.

    Raises:
        Failed: it says something else.
    """
    found = re.search(
        r"finished in ([\d.]+)(us|ms|s), .*"
        r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, .*"
        r"\((\d+)\) data.*"
        r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\s",
        text,
        re.DOTALL,
    )
    if found is None:
        raise Failed(f"h2load said something unknown: {text.strip()[-300:]}")
    took, unit, done, good, failed, data, mean, mean_unit = found.groups()
    # It does not look at the answers; their bytes in all must be there. What is in flight at the end adds some.
    short = max(0, int(good) - int(data) // answer_bytes)
    return Load(
        requests=int(good),
        seconds=float(took) * _UNITS[unit],
        errors=max(int(failed), int(done) - int(good)) + short,
        mean_us=float(mean) * _UNITS[mean_unit] * 1e6,
    )


def parse_h2vary(text: str) -> Load:
    """Read the line h2vary printed."""
    report = cattrs.structure(json.loads(text), _H2varyReport)
    return Load(
        requests=report.requests,
        seconds=report.seconds,
        errors=report.errors + report.mismatches,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
    )


def parse_rpcload(text: str) -> Load:
    """Read the line rpcload's load mode printed."""
    report = cattrs.structure(json.loads(text), _RpcloadReport)
    return Load(
        requests=report.requests,
        seconds=report.seconds,
        errors=report.errors
        + report.mismatches
        + report.failed_inflight
        + report.unanswered
        + report.connect_errors,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
    )


def _run(lab: Lab, argv: Argv, seconds: float) -> str:
    with pinned(lab.load_cpu):
        try:
            done = subprocess.run(
                [str(arg) for arg in argv],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + _MARGIN_SECONDS,
            )
        except subprocess.TimeoutExpired as exc:
            raise Failed(f"{Path(argv[0]).name} did not end in time") from exc
    if done.returncode or not done.stdout.strip():
        raise Failed(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def web_with_wrk(
    lab: Lab, port: int, *, connections: int, seconds: int, script: str = "", tls: bool = False
) -> Load:
    """Load HTTP/1.1 keep-alive connections as hard as they go; ``script`` says what is asked for."""
    parts = ["wrk_report.lua", *([script] if script else [])]
    whole = lab.work / (script or "plain.lua")
    whole.write_text("".join((tools.HERE / part).read_text() for part in parts))
    argv: Argv = [
        tools.wrk(),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=10s",
        f"--script={whole}",
        f"{'https' if tls else 'http'}://127.0.0.1:{port}/",
    ]
    return parse_wrk(_run(lab, argv, seconds))


def with_h2load(
    lab: Lab,
    port: int,
    *,
    connections: int,
    streams: int,
    seconds: int,
    tls: bool = False,
    body: bytes | None = None,
) -> Load:
    """Load HTTP/2 connections with so many streams on each, as hard as they go.

    Args:
        body: post it as a gRPC message and expect one of its length; None: get what the web upstreams answer with.
    """
    argv: Argv = [
        *(tools.h2load(), f"--clients={connections}", f"--max-concurrent-streams={streams}"),
        *(f"--duration={seconds}", *(_as_grpc(lab, body) if body is not None else ())),
        f"{'https' if tls else 'http'}://127.0.0.1:{port}/{'bench.Echo/Say' if body is not None else ''}",
    ]
    answer = BODY_BYTES if body is None else len(body)
    return parse_h2load(_run(lab, argv, seconds), answer_bytes=answer)


def h2vary(
    lab: Lab,
    port: int,
    *,
    connections: int,
    streams: int,
    seconds: int,
    size: int,
    grpc: bool = False,
) -> Load:
    """Load HTTP/2 connections with requests of which no two are alike, and expect ``size`` bytes with their nonce.

    Args:
        grpc: post as many as a gRPC message, prefix included.
    """
    argv: Argv = [
        *(tools.h2vary(), "load", "-port", str(port), "-c", str(connections), "-m", str(streams)),
        *("-d", str(seconds), "-size", str(size), *(("-grpc",) if grpc else ())),
    ]
    return parse_h2vary(_run(lab, argv, seconds))


def _as_grpc(lab: Lab, message: bytes) -> Argv:
    file = lab.work / "grpc-message"
    file.write_bytes(message)
    return [f"--data={file}", "--header=content-type: application/grpc", "--header=te: trailers"]


def handshakes(lab: Lab, port: int, *, rate: float, seconds: int) -> Load:
    """Open ``rate`` TLS connections a second, whatever became of the ones before; each asks once and ends."""
    argv: Argv = [
        *(sys.executable, tools.HERE / "handshakes.py", str(port)),
        *("--rate", f"{rate:g}", "--seconds", str(seconds)),
    ]
    return cattrs.structure(json.loads(_run(lab, argv, seconds)), Load)


def rpcload(
    lab: Lab,
    port: int,
    *,
    protocol: Spoken,
    connections: int,
    seconds: int,
    in_flight: int = 1,
    rate: float = 0.0,
    varying: bool = False,
) -> Load:
    """Load with rpcload: as hard as it goes, or at ``rate`` requests/s whatever the answers do (open loop)."""
    argv: Argv = [
        *(tools.rpcload(), "load", "-proto", protocol, "-port", str(port)),
        *("-c", str(connections), "-p", str(in_flight), "-d", str(seconds)),
        *("-size", str(BODY_BYTES if protocol == "http" else RPC_PAYLOAD_BYTES)),
        *(("-rate", f"{rate:g}") if rate else ()),
        *(("-nonce",) if varying else ()),
    ]
    return parse_rpcload(_run(lab, argv, seconds))


def bulk(lab: Lab, port: int, *, seconds: int) -> Bulk:
    """Read one connection for so long, as fast as it comes."""
    argv: Argv = [tools.rpcload(), "bulk", "-port", str(port), "-d", str(seconds)]
    return cattrs.structure(json.loads(_run(lab, argv, seconds)), Bulk)


@contextmanager
def held_connections(lab: Lab, port: int, connections: int) -> Iterator[Held]:
    """Hold HTTP/1.1 connections open on each of which one request was answered, until the block is left."""
    argv: Argv = [
        *(tools.rpcload(), "load", "-proto", "http", "-port", str(port), "-c", str(connections)),
        *("-size", str(BODY_BYTES), "-hold", "600"),
    ]
    with running(argv, name="rpcload", cpu=lab.load_cpu, work=lab.work) as process:
        assert process.popen.stdout is not None
        deadline = time.monotonic() + _MARGIN_SECONDS
        readable, _, _ = select.select([process.popen.stdout], [], [], deadline - time.monotonic())
        line = process.popen.stdout.readline() if readable else ""
        if not line:
            raise process.failed("could not open the connections")
        yield cattrs.structure(json.loads(line), Held)
