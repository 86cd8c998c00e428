from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from xproxy.observe.log_format import dropped_text
from xproxy.observe.log_writer import LineWriter


@asynccontextmanager
async def running(writer: LineWriter) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_lines_arrive_in_order_while_it_runs_and_before_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 100, dropped_text)
    async with running(writer):
        writer.write("1")
        await until(lambda: text(path) == "1\n")
        writer.write("2")
        writer.write("3")
    assert text(path) == "1\n2\n3\n"
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_it_appends_and_can_run_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    writer = LineWriter(str(path), 100, dropped_text)
    for line in ("1", "2"):
        async with running(writer):
            writer.write(line)
    assert text(path) == "old\n1\n2\n"


async def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    writer = LineWriter(str(path), 100, dropped_text)
    async with running(writer):
        writer.write("1")
        await until(lambda: text(path) == "1\n")
        os.rename(path, old)
        writer.write("2")
        await until(lambda: text(path) == "2\n")
    assert text(old) == "1\n"


async def test_beyond_the_bound_lines_are_dropped_counted_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 2, dropped_text)
    for line in "12345":
        writer.write(line)
    assert writer.dropped == 3
    async with running(writer):
        await until(lambda: "dropped" in text(path))
        writer.write("6")
    assert text(path).splitlines() == ["1", "2", "- 3 access log lines dropped", "6"]
    assert writer.dropped == 3


async def test_text_that_is_no_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 100, dropped_text)
    async with running(writer):
        writer.write("a\udc80ä")
    assert text(path) == "a\\udc80ä\n"


async def test_what_cannot_be_written_counts_as_dropped() -> None:
    writer = LineWriter("/dev/full", 100, dropped_text)
    async with running(writer):
        writer.write("1")
        await until(lambda: writer.dropped == 1)


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await LineWriter(str(tmp_path / "no" / "such"), 1, dropped_text).run()


def is_open(path: Path) -> bool:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return str(path) in [os.readlink(link) for link in links if os.path.lexists(link)]


async def test_a_pipe_that_nobody_reads_stops_neither_requests_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xproxy.observe.log_writer.FAREWELL", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        writer = LineWriter(str(path), 4, dropped_text)
        with trio.fail_after(10):
            async with running(writer):
                writer.write("x" * 200_000)  # more than a pipe holds
                await until(lambda: not writer._lines)
                for _ in range(10):
                    writer.write("y")
                assert writer.dropped == 6
    finally:
        os.close(reader)
    await until(lambda: not is_open(path))  # the thread came out of its write, and closed the pipe


async def test_standard_streams_are_not_closed(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("stdout", "stderr"):
        writer = LineWriter(name, 10, dropped_text)
        async with running(writer):
            writer.write(f"to {name}")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("to stdout\n", "to stderr\n")
    os.fstat(1)
    os.fstat(2)
