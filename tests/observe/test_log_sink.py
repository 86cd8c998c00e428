"""Destinations of log lines: what they are before anybody writes; ``test_log_writer`` has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
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
from xproxy.observe.log_writer import LineWriter
writer = LineWriter(sys.argv[1], 100_000, str, 1 << 30)
writer.open()
print("open", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    writer.write(sys.argv[2] * (number % 3000 + 1))
assert writer.close_and_wait(60)
"""


def test_lines_of_two_processes_stay_whole_in_one_pipe(tmp_path: Path) -> None:
    """As while one takes over from the other: what they write at once does not mix."""
    path, count = tmp_path / "pipe", 6000
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    kept = os.open(path, os.O_WRONLY)  # so that it does not end before the first of them has come
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), letter, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
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
    with open(reader, "rb") as pipe:
        lines = [pipe.readline().rstrip(b"\n") for _ in range(2 * count)]
        os.close(kept)
        rest = pipe.read()
    for process in writers:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert rest == b""
    expected = [n % 3000 + 1 for n in range(count)]
    for letter in (b"a", b"b"):
        assert [len(line) for line in lines if line[:1] == letter] == expected
        assert all(set(line) == set(letter) for line in lines if line[:1] == letter)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.integers(1, 40))
def test_texts_are_whole_lines(lines: list[bytes], most: int) -> None:
    texts = list(whole_lines(lines, most))
    assert b"".join(texts) == b"".join(line + b"\n" for line in lines)
    for text in texts:
        assert text.endswith(b"\n")
        assert len(text) <= most or text.count(b"\n") == 1
