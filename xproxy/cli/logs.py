"""Logging: set up once, by the command that runs. Everything goes to stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final, Literal, TextIO, TypeAlias

Format: TypeAlias = Literal["auto", "human", "json"]

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "human", "json")

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, whatever ``extra`` gave, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: str, format_: str, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (default: stderr) from ``level`` up; ``auto`` is human at a terminal and JSON otherwise."""
    target = sys.stderr if stream is None else stream
    human = format_ == "human" or (format_ == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    if human:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        )
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
