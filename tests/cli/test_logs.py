"""Log lines, for people and for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from xproxy.cli.logs import (
    MAX_MESSAGE,
    MAX_STACK,
    HumanFormatter,
    JsonFormatter,
    QueueHandler,
    configure_logging,
)
from xproxy.observe.log_format import dropped_text
from xproxy.observe.log_rate import ALIKE_LINES
from xproxy.observe.log_writer import LineWriter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json() -> None:
    stream = io.StringIO()
    configure_logging("info", "auto", stream)
    logger = logging.getLogger("xproxy.test")
    logger.debug("not told")
    logger.info("hello %s", "wörld", extra={"listener": "edge"})
    try:
        raise ValueError("inside")
    except ValueError:
        logger.exception("broken")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "xproxy.test",
        "message": "hello wörld",
        "listener": "edge",
    }
    assert "ValueError: inside" in second["exception"]


@pytest.mark.parametrize(("format_", "stream"), [("auto", Terminal()), ("human", io.StringIO())])
def test_human(format_: str, stream: io.StringIO) -> None:
    configure_logging("warning", format_, stream)
    logging.getLogger("xproxy.test").info("not told")
    logging.getLogger("xproxy.test").warning("look")
    assert stream.getvalue().endswith(" WARNING xproxy.test: look\n")
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_may_have_json_too() -> None:
    stream = Terminal()
    configure_logging("info", "json", stream)
    logging.getLogger("xproxy.test").info("x")
    assert json.loads(stream.getvalue())["message"] == "x"


@pytest.mark.parametrize("format_", ["human", "json"])
def test_a_line_is_bounded_and_is_one(format_: str) -> None:
    stream = io.StringIO()
    configure_logging("info", format_, stream)
    logger = logging.getLogger("xproxy.test")
    logger.info("%s\x1b[31m\u2028\udc80", "x" * 100_000, extra={"more": "y" * 100_000})
    try:
        raise ValueError("z" * 100_000)
    except ValueError:
        logger.exception("broken\x00")
    text = stream.getvalue()
    assert len(text) < 3 * MAX_MESSAGE + MAX_STACK + 1000
    assert not {"\x1b", "\u2028", "\udc80", "\x00"} & set(text)
    text.encode()
    if format_ == "json":
        first, second = map(json.loads, text.splitlines())
        assert first["message"].startswith("xxx")
        assert "more)" in second["exception"]


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    """Return a logger that writes human lines to ``log``."""
    writer = LineWriter(str(tmp_path / "log"), 10_000, dropped_text)  # more than a test writes
    writer.open()
    handler = QueueHandler(writer)
    handler.setFormatter(HumanFormatter())
    logger = logging.Logger("xproxy.rated")
    logger.addHandler(handler)
    yield logger
    handler.close()


def lines(logger: logging.Logger, tmp_path: Path) -> list[str]:
    logger.handlers[0].close()
    return (tmp_path / "log").read_text().splitlines()


def test_lines_that_are_alike_are_rated(logger: logging.Logger, tmp_path: Path) -> None:
    for number in range(ALIKE_LINES + 500):
        logger.info("violation %d", number)
        logger.info("another kind %d", number, extra={"every": True})
        logger.debug("nobody counts these %d", number)
    found = lines(logger, tmp_path)
    assert sum("rated: violation" in line for line in found) == ALIKE_LINES
    assert sum("another kind" in line for line in found) == ALIKE_LINES + 500
    assert sum("nobody counts" in line for line in found) == ALIKE_LINES + 500
    assert "500 more lines like this one in " in found[-1]
    assert found[-1].endswith(": violation %d")


def test_what_cannot_be_written_down_is_said(logger: logging.Logger, tmp_path: Path) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError

    logger.info("%s", Bad())
    assert "cannot be made: ValueError" in lines(logger, tmp_path)[0]


def test_json_says_text_as_text() -> None:
    record = logging.makeLogRecord({"msg": "wörld 日本\u2028"})
    line = JsonFormatter().format(record)
    assert "wörld 日本" in line
    assert "\\u2028" in line
