"""The limits page: every bound is there with its default, and who exceeds it gets what the page says."""

from __future__ import annotations

import contextlib
import importlib
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.docs.pages import ROOT
from tests.docs.tables import Row, code, table
from tests.live import PATIENCE
from tests.process.product import kill_all
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.config.schema import (
    ClusterConfig,
    KeepaliveConfig,
    LimitsConfig,
    OverloadConfig,
    ServerFirstConfig,
    TimeoutsConfig,
    UpstreamLimitsConfig,
)
from xproxy.config.tls import ListenerTlsConfig
from xproxy.config.units import format_duration, format_size
from xproxy.filters.access_log import AccessLog
from xproxy.filters.grpc_http1_bridge import GrpcHttp1Bridge
from xproxy.filters.retry import Retry
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.registry import CODECS, default_registry

PAGE = ROOT / "docs" / "explanation" / "limits.md"
LISTENER = table(PAGE, "key", "default", "who exceeds it gets")
CLUSTER = table(PAGE, "key", "default", "beyond it")
UPSTREAM = table(PAGE, "key", "default", "an upstream that exceeds it")
CONSTANTS = [
    *table(PAGE, "name", "where", "value", "beyond it"),
    *table(PAGE, "name", "where", "value", "what"),
]


def _default(cls: type, key: str) -> str:
    field = attrs.fields_dict(cls)[key]
    value: Any = field.default  # Any: a default is of its field's own type
    if "Duration" in str(field.type):
        return format_duration(value)
    return format_size(value) if "Size" in str(field.type) else str(value)


def test_every_limit_and_timeout_has_its_row() -> None:
    keys = [
        attribute.name for cls in (LimitsConfig, TimeoutsConfig) for attribute in attrs.fields(cls)
    ]
    assert sorted(code(row[0]) for row in LISTENER) == sorted(keys)
    rows = {code(row[0]) for row in CLUSTER}
    bounds = {a.name for cls in (CircuitBreakersConfig, KeepaliveConfig) for a in attrs.fields(cls)}
    assert bounds <= rows
    bounds = {a.name for a in attrs.fields(UpstreamLimitsConfig)}
    assert {code(row[0]) for row in UPSTREAM} == bounds


@pytest.mark.parametrize("row", LISTENER + CLUSTER + UPSTREAM, ids=lambda row: code(row[0]))
def test_a_default_is_what_the_code_says(row: Row) -> None:
    key = code(row[0])
    classes: tuple[type, ...] = (CircuitBreakersConfig, ClusterConfig, KeepaliveConfig)
    if row in LISTENER:
        classes = (LimitsConfig, TimeoutsConfig)
    elif row in UPSTREAM:
        classes = (UpstreamLimitsConfig,)
    found = [_default(cls, key) for cls in classes if key in attrs.fields_dict(cls)]
    assert found == [row[1]]


@pytest.mark.parametrize("row", CONSTANTS, ids=lambda row: code(row[0]))
def test_a_constant_is_what_the_code_says(row: Row) -> None:
    path = Path(code(row[1]))
    found: object = importlib.import_module(".".join(path.with_suffix("").parts))
    for part in code(row[0]).split("."):
        found = getattr(found, part)
        if attrs.has(type(found)) or (isinstance(found, type) and attrs.has(found)):
            found = Limits()
    assert str(found) == row[2]


@pytest.mark.parametrize(
    ("kind", "cls"), [("TLS key", ListenerTlsConfig), ("silence key", ServerFirstConfig)]
)
def test_the_bounds_of_tls_and_of_silence(kind: str, cls: type) -> None:
    for row in table(PAGE, kind, "default", "who exceeds it gets"):
        assert row[1] == _default(cls, code(row[0]))


def test_what_the_process_keeps_back() -> None:
    rows = table(PAGE, "overload key", "default", "when only this is left, or when it is exceeded")
    assert {code(row[0]): row[1] for row in rows} == {
        a.name: _default(OverloadConfig, a.name) for a in attrs.fields(OverloadConfig)
    }


def test_what_filters_bound() -> None:
    rows = table(PAGE, "filter and key", "default", "beyond it")
    defaults = {row[0]: row[1] for row in rows}
    assert defaults["`retry`, `attempts`"] == _default(Retry, "attempts")
    assert defaults["`retry`, `max_body_bytes`"] == _default(Retry, "max_body_bytes")
    assert defaults["`grpc_http1_bridge`, `max_response_bytes`"] == _default(
        GrpcHttp1Bridge, "max_response_bytes"
    )
    for key in ("max_pending", "max_pending_bytes", "max_field"):
        assert defaults[f"`access_log`, `{key}`"] == _default(AccessLog, key)


def test_no_bound_of_the_codec_limits_is_forgotten() -> None:
    text = PAGE.read_text("utf-8")
    assert [a.name for a in attrs.fields(Limits) if f"{a.name}`" not in text] == []


# ---- what a peer gets

CONFIG = """\
listeners:
  - name: small
    address: 127.0.0.1:0
    codecs: [http1, bolt]
    routes: main
    timeouts: {detect: 300ms, idle: 300ms, head: 300ms, body: 300ms, stream_idle: 600ms, linger: 100ms}
    limits: {max_head_bytes: 1KiB, max_headers: 5, max_target_bytes: 64B, max_message_bytes: 1KiB, max_streams: 2}
  - {name: lonely, address: "127.0.0.1:0", routes: main, limits: {max_connections: 1}}
routes:
  main:
    - match: {path: /local}
      filters: [{name: direct_response, body: ok}]
    - match: {path: /limited}
      filters: [{name: body_limit, request: 10B}]
      cluster: silent
    - match: {path: /late}
      cluster: silent
      timeout: 300ms
    - match: {path: /nobody}
      cluster: nobody
    - match: {path: /full}
      cluster: full
    - {cluster: silent}
clusters:
  silent: {endpoints: ["127.0.0.1:SILENT"]}
  nobody: {endpoints: ["127.0.0.1:1"], connect_timeout: 1s}
  full: {endpoints: ["127.0.0.1:SILENT"], circuit_breakers: {max_connections: 1, max_pending_requests: 0}}
"""
END = b"host: a\r\n\r\n"


def get(path: str, fields: bytes = b"") -> bytes:
    """Return a request head."""
    return b"GET %b HTTP/1.1\r\n%b%b" % (path.encode(), fields, END)


def post(path: str, fields: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\n%b%b%b" % (path.encode(), fields, END, body)


def bolt(number: int, content: bytes = b"N") -> bytes:
    fixed = (
        bytes.fromhex("01 01 0001 01") + number.to_bytes(4) + bytes.fromhex("01 00000000 0003 0000")
    )
    return fixed + len(content).to_bytes(4) + b"abc" + content


ONEWAY = bytes.fromhex("01 02 0001 01 00000001 01 00000000 0003 0000 00000001") + b"abcN"

HTTP_CASES: dict[str, tuple[bytes, str]] = {
    "max_head_bytes": (get("/", b"x: " + b"y" * 2000 + b"\r\n"), "431"),
    "max_headers": (get("/", b"x: y\r\n" * 6), "431"),
    "max_target_bytes": (get("/" + "a" * 100), "414"),
    "body": (post("/", b"content-length: 5\r\n", b"ab"), "408"),
    "stream_idle": (get("/"), "504"),
    "`body_limit`, `request`": (post("/limited", b"content-length: 50\r\n", b"ab"), "413"),
    "routes.*[].timeout": (get("/late"), "504"),
    "connect_timeout": (get("/nobody"), "503"),
    "SIZE_DIGITS": (post("/", b"transfer-encoding: chunked\r\n", b"0" * 17 + b"1\r\n"), "400"),
    "MAX_LENGTH": (post("/", b"content-length: 9223372036854775808\r\n", b""), "400"),
    "MAX_BLANK_LINES": (get("/local") + b"\r\n\r\n\r\n" + get("/local"), "400"),
    "Limits.max_chunk_extension_bytes": (
        post("/", b"transfer-encoding: chunked\r\n", b"1;" + b"x" * 300 + b"\r\na\r\n"),
        "400",
    ),
}
"""What is bounded, who exceeds it, and the code that both the page and the proxy must name."""

CLOSING_CASES: dict[str, tuple[bytes, bytes]] = {
    "idle, of a message protocol": (ONEWAY, b""),
    "body, of a message protocol": (bolt(1)[:-1], b""),
    # The last two bytes are those of the status.
    "max_message_bytes": (bolt(1, b"x" * 2000), bytes.fromhex("01000002 01 00000001 01 0009")),
    "max_detect_bytes": (b"\xff" * 40, b""),
    "detect": (b"GE", b""),
    "idle": (get("/local"), b"HTTP/1.1 200 "),
    "head": (get("/local") + b"GET / HT", b"HTTP/1.1 200 "),
}
"""What is bounded, who exceeds it, and how what comes before the end begins."""


async def _call(port: int, data: bytes) -> bytes:
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            received = b""
            while data := await stream.receive_some():
                received += data
            return received


async def _answers(port: int, where: str, data: bytes, wanted: str) -> None:
    received = await _call(port, data)
    assert f"HTTP/1.1 {wanted} ".encode() in received, f"{where}: {received[:200]!r}"


async def _ends(port: int, where: str, data: bytes, before: bytes) -> None:
    received = await _call(port, data)
    assert received.startswith(before), f"{where}: {received[:200]!r}"
    assert before or not received, f"{where}: {received[:200]!r}"


async def _too_many_streams(port: int) -> None:
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(bolt(1) + bolt(2) + bolt(3))
            answer = await stream.receive_some(20)
    assert (answer[5:9], answer[10:12]) == ((3).to_bytes(4), (4).to_bytes(2)), answer


async def _too_many_connections(port: int) -> None:
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream("127.0.0.1", port) as first:
            await first.send_all(get("/local"))
            await first.receive_some()
            async with await trio.open_tcp_stream("127.0.0.1", port) as second:
                assert await second.receive_some() == b""


async def _overflow(port: int) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as first:
        await first.send_all(get("/full"))
        answer = b""
        # Whichever of the two comes second finds the one connection taken.
        with trio.fail_after(PATIENCE):
            async with await trio.open_tcp_stream("127.0.0.1", port) as second:
                await second.send_all(get("/full"))
                async with trio.open_nursery() as nursery:

                    async def first_answer(stream: trio.SocketStream) -> None:
                        nonlocal answer
                        answer = bytes(await stream.receive_some())
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(first_answer, first)
                    nursery.start_soon(first_answer, second)
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    assert b"Retry-After: 1\r\n" in answer


async def _silence(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # half a request is reset, not ended
        while await stream.receive_some():
            pass


def _proxy(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xproxy", "run", "-c", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
async def test_who_exceeds_a_bound_gets_what_the_page_says(tmp_path: Path) -> None:
    if "http1" not in default_registry().names(CODECS):
        pytest.skip("xproxy is not installed")
    async with trio.open_nursery() as nursery:
        (silent,) = await nursery.start(partial(trio.serve_tcp, _silence, 0, host="127.0.0.1"))
        config = tmp_path / "limits.yaml"
        config.write_text(CONFIG.replace("SILENT", str(silent.socket.getsockname()[1])))
        with _proxy(config) as process:
            try:
                assert process.stdout is not None
                lines = [await trio.to_thread.run_sync(process.stdout.readline) for _ in range(2)]
                small, lonely = (Address.parse(line.split()[-1]).port for line in lines)
                async with trio.open_nursery() as probes:
                    run: Callable[[Callable[[], Awaitable[None]]], None] = probes.start_soon
                    for where, (data, wanted) in HTTP_CASES.items():
                        run(partial(_answers, small, where, data, wanted))
                    for where, (data, before) in CLOSING_CASES.items():
                        run(partial(_ends, small, where, data, before))
                    run(partial(_too_many_streams, small))
                    run(partial(_too_many_connections, lonely))
                    run(partial(_overflow, small))
                process.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(process.wait) == 0
            finally:
                kill_all(process)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("where", HTTP_CASES)
def test_the_page_names_the_code(where: str) -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    # In running text what is said of a key may stand on the next line.
    named = [f"{line} {after}" for line, after in pairwise(lines) if where in line]
    assert any(HTTP_CASES[where][1] in text for text in named)
