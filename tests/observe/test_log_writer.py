from __future__ import annotations

import contextlib
import os
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.live import PATIENCE
from xproxy.observe.log_format import dropped_text
from xproxy.observe.log_writer import LineWriter


@asynccontextmanager
async def running(writer: LineWriter) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
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
        await until(lambda: "dropped" in text(path) and not writer.pending_bytes)
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


async def test_bytes_are_bounded_too_with_what_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 100, dropped_text, max_pending_bytes=10)
    writer.write("1234567")
    writer.write("ää")
    writer.write("123")
    assert (writer.pending_bytes, writer.dropped) == (10, 1)
    async with running(writer):
        await until(lambda: "dropped" in text(path))
        await until(
            lambda: writer.pending_bytes == 0
        )  # the writer's thread may still be on its way back
        writer.write("ää")
    assert text(path).splitlines() == ["1234567", "123", "- 1 access log lines dropped", "ää"]


async def test_what_is_lost_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "link"
    path.symlink_to("/dev/full")
    good = tmp_path / "good"
    writer = LineWriter(str(path), 100, dropped_text)
    async with running(writer):
        stats = writer.stats
        assert stats is not None
        for count in (1, 2, 3):
            writer.write("x")
            await until(lambda count=count: stats.lines_lost == count)  # type: ignore[misc]  # bound at once
        path.unlink()
        path.symlink_to(good)
        writer.write("y")
        await until(lambda: "y" in text(good))
    assert text(good).splitlines() == ["y", "- 3 access log lines dropped"]
    assert (stats.lines_lost, stats.lines_written, stats.lines_dropped) == (3, 1, 0)
    assert stats.write_failures >= 3
    said = [moment.getMessage() for moment in caplog.records]
    assert [line.split(" cannot ")[0].split(" is ")[0] for line in said] == [f"log {path}"] * 2
    assert "No space left" in said[0]


async def test_two_logs_of_one_place_share_its_thread_and_its_counters(tmp_path: Path) -> None:
    path = tmp_path / "log"
    one, two = (LineWriter(str(path), 100, dropped_text) for _ in range(2))
    async with running(one):
        async with running(two):
            assert one.stats is two.stats is not None
            for count in range(50):
                (one, two)[count % 2].write(f"{count}")
        one.write("last")
    assert sorted(text(path).split()) == sorted([*map(str, range(50)), "last"])


def test_a_writer_needs_no_loop(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 100, dropped_text)
    writer.open()
    for number in range(3):
        writer.write(str(number))
    assert writer.close_and_wait(5)
    assert text(path) == "0\n1\n2\n"
    assert writer.close_and_wait(0)  # a second time there is nothing to do


async def test_a_named_pipe_without_a_reader_is_refused_and_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with trio.fail_after(PATIENCE), pytest.raises(OSError, match="No such device"):
        await LineWriter(str(path), 1, dropped_text).run()


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await LineWriter(str(tmp_path / "no" / "such"), 1, dropped_text).run()


def is_open(path: Path) -> bool:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed by its thread in the meantime
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return str(path) in links


async def test_a_pipe_that_nobody_reads_stops_neither_requests_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xproxy.observe.log_writer.FAREWELL", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        writer = LineWriter(str(path), 4, dropped_text)
        with trio.fail_after(PATIENCE):
            async with running(writer):
                writer.write("x" * 2_000_000)  # more than a pipe holds
                await until(lambda: bool(select.select([reader], [], [], 0)[0]))
                for _ in range(10):
                    writer.write("y")
                assert writer.dropped == 7  # what is being written waits, too
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
