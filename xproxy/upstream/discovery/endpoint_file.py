"""Reading a file of endpoints, YAML or JSON: a list of them, or a mapping with that list as ``endpoints``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from xproxy.config.document import read_document
from xproxy.config.findings import Finding, InvalidConfig
from xproxy.config.partial import problems_of
from xproxy.config.schema import EndpointConfig
from xproxy.config.structure import build_converter

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""A longer one is refused."""


@attrs.frozen(kw_only=True)
class _Endpoints:
    endpoints: tuple[EndpointConfig, ...]


_converter: Final = build_converter()


def read_endpoints(path: Path) -> tuple[EndpointConfig, ...]:
    """Return the endpoints of a file. Blocks. Raises InvalidConfig, with the line of each mistake."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise _unreadable(path, f"longer than {MAX_FILE_BYTES} bytes")
        text = raw.decode("utf-8-sig")
    except OSError as exc:
        raise _unreadable(path, f"cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise InvalidConfig([Finding(str(path), line, 1, "", "not UTF-8")]) from exc
    document = read_document(text, str(path))
    value = document.value
    try:
        if isinstance(value, list):
            return _converter.structure(value, tuple[EndpointConfig, ...])
        return _converter.structure(value, _Endpoints).endpoints
    except Exception as exc:  # what a converter raises is a tree of problems
        problems = list(problems_of(exc))
        raise InvalidConfig.of(
            problems,
            lambda problem, near, allowed: document.finding(
                problem.at, problem.message, near, allowed, of_key=problem.on_key
            ),
        ) from exc


def _unreadable(path: Path, why: str) -> InvalidConfig:
    return InvalidConfig([Finding(str(path), 0, 0, "", why)])
