"""What a process of its own does that reads a configuration file for a proxy: reading takes long, and keeps the GIL.

It is given the file's name, and on standard input the text that the proxy has read before. It answers on standard
output: in a line of JSON what is wrong, or how many bytes of text follow, and after these a line for each of
``changes``. Whatever else happens is an exit code, upon which the proxy reads the file by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final

import attrs

from xproxy.config.changes import changes
from xproxy.config.document import read_document
from xproxy.config.findings import Finding, InvalidConfig
from xproxy.config.load import read_file
from xproxy.registry import Registry, default_registry

_NICE: Final = 5
"""Who has only one processor serves first, and reads meanwhile."""
_SACRIFICED: Final = "1000"
"""proc(5), oom_score_adj: where memory runs out it is this process that goes, and not the proxy."""


@attrs.frozen(kw_only=True)
class Answer:
    """What was read of a file that is right."""

    warnings: tuple[Finding, ...]
    text: bytes
    """UTF-8."""
    items: Iterator[Sequence[Any]]  # Any: as JSON has it
    """See ``changes``. Read from the answer as they are asked for."""


def command(path: str) -> list[str]:
    """Return the command of a process that answers for ``path``; it finds the modules that this one finds."""
    # Nothing is imported before the path is set: the working directory is on it until then.
    code = f"import sys; sys.path[:] = sys.argv.pop().split('\\n'); from {__name__} import main; main()"
    isolated = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *isolated, "-c", code, path, "\n".join(sys.path)]


def main() -> None:
    """Read and answer."""
    # What plugins print is no part of the answer.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        os.nice(_NICE)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_SACRIFICED)
        answer(sys.argv[1], sys.stdin.buffer.read(), default_registry(), out)


def answer(path: str, before: bytes, registry: Registry, out: BinaryIO) -> None:
    """Write to ``out`` what has changed in the file since its text was ``before``, or what is wrong with it."""
    try:
        loaded = read_file(path, registry)
    except InvalidConfig as exc:
        out.write(_line({"findings": _plain(exc.findings), "omitted": exc.omitted}))
        return
    text = loaded.text.encode()
    out.write(_line({"warnings": _plain(loaded.warnings), "text_bytes": len(text)}))
    out.write(text)
    assert isinstance(loaded.values, dict), "which has been checked"
    out.writelines(map(_line, changes(_values(before.decode()), loaded.values)))


def understand(said: bytes) -> Answer:
    """Read an answer. Raises InvalidConfig where the file is wrong, and ValueError where this is no answer."""
    first = said.find(b"\n") + 1
    try:
        head = json.loads(said[:first])
        if "findings" in head:
            raise InvalidConfig(_findings(head["findings"]), head["omitted"])
        end = first + head["text_bytes"]
        warnings = _findings(head["warnings"])
    except (KeyError, TypeError) as exc:
        raise ValueError("not an answer") from exc
    return Answer(warnings=warnings, text=said[first:end], items=_items(said, end))


def _items(said: bytes, start: int) -> Iterator[Sequence[Any]]:  # Any: as JSON has it
    while start < len(said):
        end = said.index(b"\n", start)
        yield json.loads(said[start:end])
        start = end + 1


def _values(text: str) -> object:
    # Of a text that was never a configuration nothing is kept.
    try:
        return read_document(text, "").value
    except InvalidConfig:
        return None


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _plain(findings: Sequence[Finding]) -> list[dict[str, Any]]:  # Any: as JSON has it
    return [attrs.asdict(finding) for finding in findings]


def _findings(plain: Sequence[dict[str, Any]]) -> tuple[Finding, ...]:  # Any: as above
    return tuple(Finding(**one) for one in plain)
