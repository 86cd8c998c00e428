"""Destinations of log lines: what they are before anybody writes; ``test_log_writer`` has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.live import PATIENCE
from xproxy.observe.log_sink import check_path, whole_lines


def test_a_path_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for good in (str(path), "stdout", "stderr", "/dev/null"):
        check_path(good)
    assert not path.exists()
    path.write_text("x")
    check_path(str(path))
    assert path.read_text() == "x"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o400)
    locked = tmp_path / "locked"
    locked.mkdir(0o500)
    bad = [tmp_path, tmp_path / "no" / "such", tmp_path / "file" / "log"]
    if os.geteuid() != 0:
        bad += [tmp_path / "file", locked / "log"]
    for path in bad:
        with pytest.raises(OSError):
            check_path(str(path))


WRITER = """
import sys
import time
from xproxy.observe.log_writer import LineWriter
writer = LineWriter(sys.argv[1], 100_000, str, 1 << 30)
writer.open()
print("open", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    writer.write(sys.argv[2] * (number % 3000 + 1))
assert writer.close_and_wait(60)
"""


COUNT = 6000


@contextmanager
def two_writers(where: str, stderr: int | None = None) -> Iterator[None]:
    """As while one process takes over from the other: both write at once to ``where`` until the end of the block."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, where, letter, str(COUNT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        for letter in "ab"
    ]
    for process in writers:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
    for process in writers:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    yield
    for process in writers:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def check_whole(lines: list[bytes]) -> None:
    expected = [n % 3000 + 1 for n in range(COUNT)]
    for letter in (b"a", b"b"):
        assert [len(line) for line in lines if line[:1] == letter] == expected
        assert all(set(line) == set(letter) for line in lines if line[:1] == letter)
    assert len(lines) == 2 * COUNT


@pytest.mark.parametrize("inherited", [False, True])
def test_lines_of_two_processes_stay_whole_in_one_pipe(tmp_path: Path, inherited: bool) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    kept = os.open(path, os.O_WRONLY)  # so that it does not end before the first of them has come
    where, stderr = ("stderr", kept) if inherited else (str(path), None)
    with two_writers(where, stderr), open(reader, "rb") as pipe:
        lines = [pipe.readline().rstrip(b"\n") for _ in range(2 * COUNT)]
        os.close(kept)
        assert pipe.read() == b""
    check_whole(lines)


def test_lines_of_two_processes_stay_whole_in_one_file(tmp_path: Path) -> None:
    with two_writers(str(tmp_path / "log")):
        pass
    check_whole((tmp_path / "log").read_bytes().splitlines())


def test_a_shells_redirection_is_shared_by_two_processes(tmp_path: Path) -> None:
    """It does not append; but what both have inherited has one position, which each write moves on."""
    with open(tmp_path / "log", "wb") as log, two_writers("stderr", log.fileno()):
        pass
    check_whole((tmp_path / "log").read_bytes().splitlines())


def test_a_file_that_was_rotated_is_found_by_both(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with two_writers(str(path)):
        end = time.monotonic() + PATIENCE
        while not path.exists() or path.stat().st_size < 1_000_000:
            assert time.monotonic() < end
            os.sched_yield()
        path.rename(tmp_path / "log.1")
    files = [tmp_path / "log.1", *([path] if path.exists() else [])]
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    check_whole(lines)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.integers(1, 40))
def test_texts_are_whole_lines(lines: list[bytes], most: int) -> None:
    texts = list(whole_lines(lines, most))
    assert b"".join(texts) == b"".join(line + b"\n" for line in lines)
    for text in texts:
        assert text.endswith(b"\n")
        assert len(text) <= most or text.count(b"\n") == 1
