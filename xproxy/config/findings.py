"""Findings: what is wrong with a configuration, and where it stands in the file."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import attrs

from xproxy.model.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the top of the document down to a value."""

MAX_FINDINGS: Final = 100
"""Findings reported of one file; what is beyond is only counted."""
MAX_COMPARED: Final = 50_000
"""Names that are compared with wrong ones, of all findings together, to suggest the nearest; past it none is
suggested. Comparing takes some 30 µs each."""
_MAX_ALLOWED_SHOWN: Final = 16
_MAX_EXCERPT: Final = 120
_BEFORE_CARET: Final = 60
_MAX_NAME: Final = 64
"""Longer names get no suggestion: comparing takes time quadratic in their length."""
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


@attrs.frozen
class Finding:
    """One thing that is wrong (or, as a warning, odd) in a configuration."""

    file: str
    """Path of the file as the user gave it, or the name of another source; empty where there is none."""
    line: int
    """From 1; 0 where the source has no lines (a file that cannot be read, command line arguments, a program)."""
    column: int
    """From 1, in characters; 0 as above."""
    path: str
    """Where in the document, e.g. ``listeners[0].adress``; empty for the whole."""
    message: str
    """What was found and what is allowed."""
    suggestion: str = ""
    """The allowed name nearest to the one found; empty: none is near."""
    allowed: str = ""
    """The names that could stand there, as people read them; empty: it is no matter of names."""
    source_line: str = ""
    """The line of the text that it stands in; empty where there is none."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        place = f"{place}: " if place else ""
        where = f"{self.path}: " if self.path else ""
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{place}{where}{self.message}{hint}{allowed}"

    def shown(self) -> str:
        """Return the finding with the line it stands in, and a caret under the place."""
        if not self.source_line.strip():
            return str(self)
        start = max(0, self.column - 1 - _BEFORE_CARET) if self.column > _MAX_EXCERPT else 0
        excerpt = self.source_line[start : start + _MAX_EXCERPT].rstrip()
        cut = "…" if start else ""
        # A tab is as wide as the tab above it.
        before = "".join(c if c == "\t" else " " for c in excerpt[: self.column - 1 - start])
        return f"{self}\n    {cut}{excerpt}\n    {' ' * len(cut)}{before}^"


class InvalidConfig(ConfigError):
    """The configuration is wrong. ``str()`` gives every finding, one a line."""

    def __init__(self, findings: Sequence[Finding], omitted: int = 0) -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        """In the order of the file, or of the configuration where there is none."""
        self.omitted = omitted
        """How many more there are, past ``MAX_FINDINGS``."""
        lines = [str(finding) for finding in self.findings]
        if omitted:
            lines.append(f"… and {omitted} more")
        super().__init__("\n".join(lines))

    @classmethod
    def of(
        cls,
        problems: Sequence[Problem],
        place: Callable[[Problem, str, str], Finding] | None = None,
    ) -> InvalidConfig:
        """Word the first ``MAX_FINDINGS`` of ``problems``, whose ``at`` begins at the top of the configuration.

        ``place`` makes a finding of one, with what to write instead and what is allowed. Without it: a configuration
        that no text was read for, where a path is all there is.
        """
        shown = problems[:MAX_FINDINGS]
        make = place or _unplaced
        findings = [
            make(problem, near, allowed_names(problem))
            for problem, near in zip(shown, suggestions(shown), strict=True)
        ]
        return cls(findings, len(problems) - len(shown))

    def shown(self) -> str:
        """Return every finding with its line of the text, for people at a terminal."""
        parts = [finding.shown() for finding in self.findings]
        if self.omitted:
            parts.append(f"… and {self.omitted} more")
        return "\n".join(parts)


class Problem(ValueError):
    """What a reader of one value found wrong; it does not know where the value stands.

    ``at`` leads from that value to the part that is meant. ``allowed`` are the names that could stand there; the
    nearest to ``name`` is suggested. Both are worked out only for findings that are reported.
    """

    def __init__(
        self,
        message: str,
        *,
        at: Path = (),
        on_key: bool = False,
        name: str = "",
        allowed: Sequence[str] = (),
        suggestion: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.on_key = on_key
        """The key itself is wrong, not the value under it."""
        self.name = name
        self.allowed = allowed
        self.suggestion = suggestion


def _unplaced(problem: Problem, suggestion: str, allowed: str) -> Finding:
    return Finding("", 0, 0, show_path(problem.at), problem.message, suggestion, allowed)


def unknown(
    kind: str, name: str, allowed: Sequence[str], *, at: Path = (), key: bool = False
) -> Problem:
    """Return the problem of a name that nothing has."""
    if not allowed:
        return Problem(f"unknown {kind} {show(name)}; there is none", at=at, on_key=key)
    return Problem(f"unknown {kind} {show(name)}", at=at, on_key=key, name=name, allowed=allowed)


def under(path: Path, problems: Iterable[Problem]) -> Iterator[Problem]:
    """Give the problems of a part that stands at ``path``, as those of the whole."""
    for problem in problems:
        problem.at = path + problem.at
        yield problem


def allowed_names(problem: Problem) -> str:
    """Return what is allowed as a user reads it; empty if it is no matter of names."""
    shown = ", ".join(problem.allowed[:_MAX_ALLOWED_SHOWN])
    rest = len(problem.allowed) - _MAX_ALLOWED_SHOWN
    return shown + (f", … ({rest} more)" if rest > 0 else "")


def suggestions(problems: Iterable[Problem]) -> Iterator[str]:
    """Give for each problem what to write instead, or an empty string: of names the nearest that is allowed."""
    compared = 0
    for problem in problems:
        near = problem.suggestion
        if not near and problem.name:
            compared += len(problem.allowed)
            near = nearest(problem.name, problem.allowed) if compared <= MAX_COMPARED else ""
        yield near


def nearest(name: str, allowed: Sequence[str]) -> str:
    """Return the allowed name most like ``name``, or an empty string if none is like it."""
    if not name or len(name) > _MAX_NAME:
        return ""
    lower = {candidate.lower(): candidate for candidate in allowed}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), lower, n=1, cutoff=0.6)
    if not found:
        found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


@functools.lru_cache(maxsize=1024)
def is_like(name: str, wanted: str) -> bool:
    """Say whether ``name`` is probably ``wanted``, misspelt."""
    if abs(len(name) - len(wanted)) > 3:
        return False
    matcher = difflib.SequenceMatcher(None, name, wanted)
    return matcher.quick_ratio() >= 0.6 and matcher.ratio() >= 0.6


def show_path(path: Path) -> str:
    """Write a path as people do: ``listeners[0].address``, ``clusters["a.b"].codec``."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{json.dumps(step[:_MAX_NAME], ensure_ascii=False)}]")
    return "".join(parts)


def show(value: object) -> str:
    """Name a value of the document in few words, for ``found …``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return json.dumps(value if len(value) <= 40 else value[:37] + "...", ensure_ascii=False)
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a mapping of {len(value)}"
        case _:
            return type(value).__name__
