"""Logging: set up once, by the command that runs. Everything goes to stderr, and nobody waits for its reader."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Iterable
from typing import Final, Literal, TextIO, TypeAlias

from xproxy.observe.log_format import clean_json
from xproxy.observe.log_rate import HeldBack, Rate
from xproxy.observe.log_sink import LogStats
from xproxy.observe.log_writer import LineWriter

Format: TypeAlias = Literal["auto", "human", "json"]

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "human", "json")
MAX_PENDING_LINES: Final = 8192
"""Log lines that wait for whoever reads standard error."""
MAX_MESSAGE: Final = 4096
"""Characters of one message, or of one value beside it."""
MAX_STACK: Final = 16_384
"""Characters of a stack; of a longer one the end is shown, which says what went wrong."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "every",
}
# What a terminal, or a reader of lines, may take for something else than text.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _cut(text: str, most: int = MAX_MESSAGE) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more)"


def _cut_stack(text: str) -> str:
    return (
        text if len(text) <= MAX_STACK else f"({len(text) - MAX_STACK} more) …{text[-MAX_STACK:]}"
    )


def _shown(value: object) -> str:
    return _cut(str(value))


def _visible(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, whatever ``extra`` gave, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage()),
        }
        for key, value in vars(record).items():
            if key not in _STANDARD:
                line[key] = _cut(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = _cut_stack(self.formatException(record.exc_info))
        return clean_json(json.dumps(line, ensure_ascii=False, default=_shown))


class HumanFormatter(logging.Formatter):
    """A line for people; a stack follows it in lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = _cut(record.message)
        return _visible(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        """Return the stack."""
        return _visible(_cut_stack(super().formatException(ei)))  # type: ignore[arg-type]  # as logging gives it


class QueueHandler(logging.Handler):
    """Puts lines into a bounded queue, which a thread of its own empties: no line ever makes its writer wait.

    Of lines that are alike some are written and the others counted (``log_rate``), but for debug lines and those with
    ``extra={"every": True}``.
    """

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        self._rate = Rate()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler; called by one thread at a time."""
        try:
            now = time.monotonic()
            self._tell(self._rate.over(now))
            kind = (record.name, record.levelno, str(record.msg))
            rated = record.levelno > logging.DEBUG and not getattr(record, "every", False)
            if rated and not self._rate.admit(kind, now):
                stats = self._writer.stats
                if stats is not None:
                    stats.lines_held_back += 1
                return
            self._writer.write(self.format(record))
        except Exception:  # whatever an argument's __str__ does: logging has it so
            self.handleError(record)

    def _tell(self, held_back: Iterable[HeldBack]) -> None:
        for held in held_back:
            name, level, message = held.kind
            text = "%d more lines like this one in %.0f s: %s"
            values = (held.count, held.seconds, _cut(message, 200))
            record = logging.LogRecord(name, level, __file__, 0, text, values, None)
            self._writer.write(self.format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Say that a line could not be made; the standard way is to write to stderr, and to wait for it."""
        name = type(sys.exception()).__name__
        self._writer.write(f"a log line of {record.name}:{record.lineno} cannot be made: {name}")

    def close(self) -> None:
        """Write what waits, for a bounded time."""
        with self.lock or contextlib.nullcontext():
            self._tell(self._rate.over(math.inf))
        self._writer.close_and_wait()
        super().close()


def _missing(count: int) -> str:
    return f"{count} log lines dropped: whoever reads them is too slow"


def _missing_json(count: int) -> str:
    return json.dumps({"level": "warning", "logger": __name__, "message": _missing(count)})


def configure_logging(level: str, format_: str, stream: TextIO | None = None) -> LogStats | None:
    """Log to ``stream`` (default: stderr) from ``level`` up; ``auto`` is human at a terminal and JSON otherwise.

    Returns the counters of standard error.
    """
    target = sys.stderr if stream is None else stream
    human = format_ == "human" or (format_ == "auto" and target.isatty())
    handler: logging.Handler
    stats: LogStats | None = None
    if stream is None:
        writer = LineWriter("stderr", MAX_PENDING_LINES, _missing if human else _missing_json)
        writer.open()
        stats = writer.stats
        handler = QueueHandler(writer)
        # What Python says by itself goes the same way.
        sys.unraisablehook = _unraisable
        threading.excepthook = _thread_failed
    else:
        handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    return stats


def _unraisable(failure: sys.UnraisableHookArgs) -> None:
    # Not the object itself: its repr may hold what a peer sent, and keeping it alive is wrong here.
    kind, error = failure.exc_type, failure.exc_value
    text = failure.err_msg or "an exception nobody can catch"
    logging.getLogger("xproxy").error("%s", text, exc_info=(kind, error, failure.exc_traceback))  # type: ignore[arg-type]  # as logging takes it


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    kind, error = failure.exc_type, failure.exc_value
    if kind is not SystemExit:
        logging.getLogger("xproxy").error(
            "a thread failed",
            exc_info=(kind, error, failure.exc_traceback),  # type: ignore[arg-type]  # as above
        )
