"""The supervisor's own lines."""

from __future__ import annotations

import json
import os
import pty
import re

from xproxy.supervisor.log import Log


def lines(log: Log, reader: int) -> list[str]:
    return os.read(reader, 65536).decode().splitlines()


def test_json_as_the_workers_have_it() -> None:
    reader, writer = os.pipe()
    log = Log(writer)
    log.error("worker 0 has ended\nunexpectedly")
    (line,) = lines(log, reader)
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "error",
        "logger": "xproxy.supervisor",
        "message": "worker 0 has ended\nunexpectedly",
    }
    os.close(reader)
    os.close(writer)


def test_text_at_a_terminal_and_where_it_is_asked_for() -> None:
    ours, theirs = pty.openpty()
    assert Log(theirs).human
    os.close(ours)
    os.close(theirs)
    reader, writer = os.pipe()
    log = Log(writer)
    assert not log.human
    log.become("human", "warning")
    log.info("not shown")
    log.warning("a\x1bb")
    (line,) = lines(log, reader)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING xproxy\.supervisor: a\\x1bb", line)
    log.become("json", "info")
    log.become("auto", "nonsense")
    assert not log.human
    os.close(reader)
    os.close(writer)


def test_nobody_waits_for_its_reader() -> None:
    reader, writer = os.pipe()
    log = Log(writer)
    for _ in range(2000):
        log.info("x" * 10_000)
    assert log.dropped
    assert max(map(len, lines(log, reader))) <= 4096
    os.close(reader)
    log.info("nobody reads this")
    os.close(writer)
