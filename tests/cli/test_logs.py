"""Log lines, for people and for machines."""

from __future__ import annotations

import io
import json
import logging

import pytest

from xproxy.cli.logs import configure_logging


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
