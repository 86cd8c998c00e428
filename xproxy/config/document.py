"""Documents: YAML text → plain values, and where each of them stands.

Read from PyYAML's events, not by its constructors, so that

* only YAML 1.2's core schema counts: ``on``, ``yes``, ``12:30`` and ``2024-01-01`` are text, and so is every key;
* a key given twice is an error, as are tags and a second document;
* nesting, the number of values and what aliases expand to are bounded before any of it is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import attrs
import yaml

from xproxy.config.findings import Finding, InvalidConfig, Path, show_path

MAX_TEXT_BYTES: Final = 8 * 1024 * 1024
"""A configuration file may be this long: 10,000 routes and their clusters, with 800 bytes for each pair."""
MAX_DEPTH: Final = 32
"""Lists and mappings inside one another. The schema needs about ten."""
MAX_VALUES: Final = 1_000_000
"""Values in one document, each alias counted with everything it stands for."""

# libyaml's parser, where PyYAML was built with it, takes 0.15 s for a file of 1 MiB; the Python one 2.6 s.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Any: two unrelated classes

_UNPRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?"
)
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})


@attrs.frozen(eq=False)
class Position:
    """Line and column, both from 1; the column in characters."""

    line: int
    column: int


@attrs.define(eq=False)
class Node:
    """A value with its position. ``value`` holds plain Python values all the way down."""

    value: object
    position: Position
    children: dict[str | int, Node] = attrs.field(factory=dict)
    keys: dict[str, Position] = attrs.field(factory=dict)
    """Where each key of a mapping stands."""
    size: int = 1
    """Values in it, itself included, aliases with all they stand for."""


@attrs.frozen(eq=False)
class Document:
    """A whole text, read."""

    source: str
    root: Node
    lines: Sequence[str] = ()
    """Of the text."""

    @property
    def value(self) -> object:
        """The document as plain dicts, lists and scalars."""
        return self.root.value

    def existing(self, path: Path) -> Path:
        """Return the longest part of ``path`` that is in the text (shorthands leave out the rest)."""
        node = self.root
        for depth, step in enumerate(path):
            below = node.children.get(step)
            if below is None:
                return path[:depth]
            node = below
        return path

    def position(self, path: Path, *, of_key: bool = False) -> Position:
        """Return where the value at ``path``, or its key, stands; else where the nearest value above it does."""
        node = self.root
        place = node.position
        for step in path:
            below = node.children.get(step)
            if below is None:
                break
            place = node.keys[step] if of_key and isinstance(step, str) else below.position
            node = below
        return place

    def finding(
        self,
        path: Path,
        message: str,
        suggestion: str = "",
        allowed: str = "",
        *,
        of_key: bool = False,
    ) -> Finding:
        """Return a finding at ``path``."""
        there = self.existing(path)
        place = self.position(there, of_key=of_key)
        return Finding(
            self.source,
            place.line,
            place.column,
            show_path(there),
            message,
            suggestion,
            allowed,
            line_of(self.lines, place.line),
        )


@attrs.define(eq=False)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    items: list[object] | dict[str, object]
    anchor: str | None
    key: str | None = None
    key_position: Position | None = None
    skip: bool = False
    """The value to come stands under a key that cannot be kept."""


class _Refused(Exception):
    """The text cannot be read any further."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


def read_document(text: str, source: str) -> Document:
    """Read one YAML document. Raises InvalidConfig."""
    lines = split_lines(text) if len(text) <= MAX_TEXT_BYTES else []
    reader = _Reader(source, lines)
    try:
        if len(text) > MAX_TEXT_BYTES:
            raise _Refused(Position(1, 1), f"longer than {MAX_TEXT_BYTES} bytes")
        odd = _UNPRINTABLE.search(text)
        if odd is not None:
            raise _Refused(
                place_of(text[: odd.start()]),
                f"character U+{ord(odd.group()):04X} may not stand in YAML",
            )
        root = reader.read(_events(text))
    except _Refused as exc:
        reader.note(exc.position, (), exc.message)
        root = None
    if reader.findings:
        raise InvalidConfig(sorted(reader.findings, key=lambda f: (f.line, f.column)))
    if root is None:
        raise InvalidConfig([Finding(source, 1, 1, "", "the document is empty")])
    return Document(source, root, lines)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text as YAML counts them (§5.4)."""
    return re.split("\r\n|[\r\n\x85\u2028\u2029]", text)


def line_of(lines: Sequence[str], number: int) -> str:
    """Return a line by its number, from 1; empty if there is none."""
    return lines[number - 1] if 0 < number <= len(lines) else ""


def place_of(before: str) -> Position:
    """Return where the character that follows ``before`` stands."""
    return Position(before.count("\n") + 1, len(before) - before.rfind("\n"))


class _Mark(Protocol):
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


def _position(mark: _Mark | None) -> Position:
    if mark is None:
        return Position(1, 1)
    return Position(mark.line + 1, mark.column + 1)


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, _LOADER)
    except yaml.MarkedYAMLError as exc:
        context = f" {exc.context}" if exc.context else ""
        place = _position(exc.problem_mark or exc.context_mark)
        if exc.context_mark is not None and _is_unclosed(exc):
            # Where it was noticed is mostly the end of the file; what is to be mended is where it began.
            noticed, place = place.line, _position(exc.context_mark)
            found = _split_at(text, place)
            message = f"not YAML: {found} is not closed (noticed in line {noticed})"
            raise _Refused(place, message) from exc
        raise _Refused(place, f"not YAML:{context} {exc.problem}".replace("  ", " ")) from exc
    except yaml.YAMLError as exc:
        first = str(exc).partition("\n")[0]
        raise _Refused(Position(1, 1), f"not YAML: {first}") from exc


def _is_unclosed(exc: yaml.MarkedYAMLError) -> bool:
    context = str(exc.context)
    return "flow sequence" in context or "flow mapping" in context or "quoted scalar" in context


def _split_at(text: str, place: Position) -> str:
    line = line_of(split_lines(text), place.line)
    return f"`{line[place.column - 1 : place.column]}`"


class _Reader:
    """Builds nodes from events, without recursion."""

    def __init__(self, source: str, lines: Sequence[str]) -> None:
        self._lines = lines
        self.findings: list[Finding] = []
        self._source = source
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._values = 0
        self._root: Node | None = None

    def note(self, position: Position, path: Path, message: str) -> None:
        line, column = position.line, position.column
        text = line_of(self._lines, line)
        self.findings.append(
            Finding(self._source, line, column, show_path(path), message, source_line=text)
        )

    def read(self, events: Iterator[yaml.Event]) -> Node | None:
        documents = 0
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise _Refused(
                            _position(event.start_mark), "a second document; one is allowed"
                        )
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self._start(event)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    self._end()
        return self._root

    def _count(self, size: int, position: Position) -> None:
        self._values += size
        if self._values > MAX_VALUES:
            raise _Refused(
                position, f"more than {MAX_VALUES} values (aliases count with all they name)"
            )

    def _path(self) -> Path:
        return tuple(
            len(level.items) if isinstance(level.items, list) else level.key or ""
            for level in self._open
        )

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        position = _position(event.start_mark)
        self._count(1, position)
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.items, dict) and top.key is None:
            self._key(top, event.value, position)
            return
        plain = event.implicit[0] and event.tag is None
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.note(position, self._path(), f"tag {event.tag[:64]} is not supported")
        self._add(Node(_resolve(event.value) if plain else event.value, position), event.anchor)

    def _key(self, top: _Open, key: str, position: Position) -> None:
        top.key, top.key_position = key, position
        if key in top.node.keys:
            first = top.node.keys[key]
            self.note(
                position, self._path(), f"key given twice; the first one is in line {first.line}"
            )
            top.skip = True

    def _alias(self, event: yaml.AliasEvent) -> None:
        position = _position(event.start_mark)
        name = event.anchor or ""
        node = self._anchors.get(name)
        if node is None:
            raise _Refused(
                position, f"alias *{name[:64]} names no anchor that is complete before it"
            )
        self._count(node.size, position)
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.items, dict) and top.key is None:
            raise _Refused(position, "a key must be text, found an alias")
        self._add(node, None)

    def _start(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        position = _position(event.start_mark)
        self._count(1, position)
        if len(self._open) >= MAX_DEPTH:
            raise _Refused(position, f"nested more than {MAX_DEPTH} deep")
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.items, dict) and top.key is None:
            raise _Refused(position, "a key must be text, found a list or mapping")
        if event.tag not in (None, "!", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            self.note(position, self._path(), f"tag {event.tag[:64]} is not supported")
        items: list[object] | dict[str, object] = {}
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
        self._open.append(_Open(Node(items, position), items, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        self._add(done.node, done.anchor)

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        top = self._open[-1]
        top.node.size += node.size
        if isinstance(top.items, list):
            top.node.children[len(top.items)] = node
            top.items.append(node.value)
            return
        key, position = top.key, top.key_position
        top.key, top.key_position = None, None
        if top.skip:
            top.skip = False
        elif key is not None and position is not None:
            top.items[key] = node.value
            top.node.children[key] = node
            top.node.keys[key] = position


def _resolve(text: str) -> object:
    """Return what a plain scalar means in YAML 1.2's core schema (§10.3), without .inf, .nan, hex and octal."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
