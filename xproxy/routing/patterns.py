"""Regular expressions of a configuration, matched against what clients send, in bounded time.

Python's ``re`` goes back and tries again, and how often can grow with the text's length squared, or double with each
character of it. So a pattern is looked at before it is used:

* one that takes linear time is ``re``'s, which is the faster one on short texts;
* any other is RE2's, where that is installed (``xproxy[re2]``) and knows what is in it: it always takes linear time;
* else, if the time grows with the square, texts above ``MAX_TEXT`` are refused;
* else the pattern is.

The analysis errs on the safe side. (idea: Thompson's NFA against backtracking, R. Cox, "Regular Expression Matching
Can Be Simple And Fast", 2007; determinism by first and follow sets, as in LL(1) parsers)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from re import _constants as op  # type: ignore[attr-defined]  # typeshed does not know them
from re import _parser  # type: ignore[attr-defined]  # as above
from typing import Any, Final, TypeAlias

import attrs

from xproxy.model.errors import BadTarget

try:
    import re2
except ImportError:  # an extra
    re2 = None

MAX_TEXT: Final = 2048
"""Characters of a text for a pattern whose time grows with the square: about 20 ms."""
MAX_PATTERN: Final = 4096
"""Characters of a pattern."""
MAX_REPEAT: Final = 16
"""A repeat with a higher bound counts as one without."""

Holds: TypeAlias = Callable[[str], bool]
_Set: TypeAlias = frozenset[int]
_Node: TypeAlias = tuple[Any, Any]  # Any: what the parser of ``re`` makes has no types

_OTHERS: Final = 256
"""Stands for all characters beyond Latin-1."""
_END: Final = -1
"""Stands for the end of the text."""
_ALL: Final = frozenset(range(_OTHERS + 1))
_CATEGORIES: Final = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}
_CATEGORY_SETS: Final = {
    category: frozenset(n for n in range(256) if re.match(text, chr(n))) | {_OTHERS}
    for category, text in _CATEGORIES.items()
}
_ANY_CASE: Final = re.compile(r"\(\?[a-zA-Z]*i")
_REPEATS: Final = frozenset({op.MAX_REPEAT, op.MIN_REPEAT})


@attrs.frozen
class Cost:
    """How the time to match a part of a pattern grows with the text."""

    degree: int = 0
    """The power of the length."""
    ways: int = 0
    """The power of the length that the number of ways grows with in which the part can match."""
    explodes: bool = False
    """It may double with each character."""
    one_line: int = 0
    """``degree`` for texts without a line feed, which a dot takes to their end."""

    def then(self, other: Cost) -> Cost:
        """Return the cost of one part after another: the second is tried for each way of the first."""
        return Cost(
            max(self.degree, self.ways + other.degree),
            self.ways + other.ways,
            self.explodes or other.explodes,
            max(self.one_line, self.ways + other.one_line),
        )

    def either(self, other: Cost) -> Cost:
        """Return the cost of two parts of which one matches."""
        return Cost(
            max(self.degree, other.degree),
            max(self.ways, other.ways),
            self.explodes or other.explodes,
            max(self.one_line, other.one_line),
        )


_NOTHING: Final = Cost()
_EXPLODES: Final = Cost(explodes=True)


def cost_of(pattern: str) -> Cost:
    """Return what matching the whole of a text takes at worst. Raises ValueError for a pattern that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", FutureWarning
            )  # what will mean something else means nothing here
            parsed = _parser.parse(pattern)
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError, FutureWarning) as error:
        raise ValueError(str(error)) from None
    any_case = _ANY_CASE.search(pattern) is not None
    return _Analysis(any_case).sequence(list(parsed), frozenset({_END}), strict=False)


@attrs.frozen
class _Analysis:
    any_case: bool

    def first(self, nodes: Sequence[_Node], follow: _Set) -> _Set:
        """Return what a sequence can begin with, if ``follow`` is what comes behind it."""
        found = follow
        for node in reversed(nodes):
            found = self._first(node, found)
        return found

    def _first(self, node: _Node, follow: _Set) -> _Set:
        kind, value = node
        chars = self._chars(node)
        if chars is not None:
            return chars
        if kind in _REPEATS or kind is op.POSSESSIVE_REPEAT:
            least, _, body = value
            inner = self.first(list(body), follow)
            return inner if least else inner | follow
        if kind is op.SUBPATTERN:
            return self.first(list(value[3]), follow)
        if kind is op.ATOMIC_GROUP:
            return self.first(list(value), follow)
        if kind is op.BRANCH:
            return frozenset().union(*(self.first(list(one), follow) for one in value[1]))
        if kind in (op.AT, op.ASSERT, op.ASSERT_NOT):
            return follow
        return _ALL | {_END}  # a reference back, or something new

    def _chars(self, node: _Node) -> _Set | None:
        """Return the characters of a node that is exactly one."""
        kind, value = node
        if kind is op.LITERAL:
            return self._cases((value,))
        if kind is op.NOT_LITERAL:
            return _ALL - self._cases((value,)) if value < _OTHERS else _ALL
        if kind is op.ANY:
            return _ALL
        if kind is op.IN:
            return self._class(value)
        return None

    def _class(self, items: Iterable[_Node]) -> _Set:
        found: set[int] = set()
        negated = False
        for kind, value in items:
            if kind is op.NEGATE:
                negated = True
            elif kind is op.LITERAL:
                found |= self._cases((value,))
            elif kind is op.RANGE:
                low, high = value
                found |= self._cases(range(low, min(high, 255) + 1))
                if high > 255:
                    found.add(_OTHERS)
            elif kind is op.CATEGORY:
                found |= _CATEGORY_SETS.get(value, _ALL)
            else:
                return _ALL
        return (_ALL - found) | {_OTHERS} if negated else frozenset(found)

    def _cases(self, codes: Iterable[int]) -> _Set:
        found: set[int] = set()
        for code in codes:
            if code >= _OTHERS:
                found.add(_OTHERS)
                continue
            found.add(code)
            if self.any_case:
                found |= {min(_OTHERS, ord(c)) for c in chr(code).swapcase()}
                if chr(code).lower() in "ksåµ":  # their other cases lie beyond Latin-1
                    found.add(_OTHERS)
        return frozenset(found)

    def sequence(self, nodes: Sequence[_Node], follow: _Set, *, strict: bool) -> Cost:
        """Return the cost of nodes one after another. ``strict``: within a repeat, where two ways explode."""
        cost = _NOTHING
        for index, node in enumerate(nodes):
            behind = self.first(nodes[index + 1 :], follow)
            cost = cost.then(self._node(node, behind, strict=strict))
        return cost

    def _node(self, node: _Node, follow: _Set, *, strict: bool) -> Cost:
        kind, value = node
        if self._chars(node) is not None or kind is op.AT:
            return _NOTHING
        if kind is op.SUBPATTERN:
            return self.sequence(list(value[3]), follow, strict=strict)
        if kind is op.BRANCH:
            return self._branch([list(one) for one in value[1]], follow, strict=strict)
        if kind in _REPEATS:
            least, most, body = value
            return self._repeat(least, most, list(body), follow, strict=strict)
        if kind is op.ATOMIC_GROUP or kind is op.POSSESSIVE_REPEAT:
            body = value if kind is op.ATOMIC_GROUP else value[2]
            inner = self.sequence(list(body), _ALL, strict=kind is op.POSSESSIVE_REPEAT or strict)
            # Once it has matched, it is not gone back into.
            return Cost(max(1, inner.degree), 0, inner.explodes, max(1, inner.one_line))
        if kind in (op.ASSERT, op.ASSERT_NOT):
            inner = self.sequence(list(value[1]), _ALL, strict=strict)
            return Cost(inner.degree, 0, inner.explodes, inner.one_line)
        return _EXPLODES if strict else Cost(1, 1, False, 1)

    def _branch(self, branches: list[list[_Node]], follow: _Set, *, strict: bool) -> Cost:
        cost = _NOTHING
        seen: _Set = frozenset()
        for branch in branches:
            begin = self.first(branch, follow)
            if strict and seen & begin:
                return _EXPLODES
            seen |= begin
            cost = cost.either(self.sequence(branch, follow, strict=strict))
        return cost

    def _repeat(
        self, least: int, most: int, body: list[_Node], follow: _Set, *, strict: bool
    ) -> Cost:
        begin = self.first(body, frozenset({_END}))
        nullable = _END in begin
        begin -= {_END}
        clear = not begin & follow
        if most <= 1:
            if strict and not (least or clear):
                return _EXPLODES
            return self.sequence(body, follow, strict=strict)
        if most <= MAX_REPEAT:
            # Bounded; but repeats within repeats multiply, and soon nobody sees the difference.
            inner = self.sequence(body, begin | follow, strict=True)
            explodes = nullable or inner.explodes or (strict and least != most and not clear)
            return _EXPLODES if explodes else inner
        single = len(body) == 1 and self._chars(body[0]) is not None
        if single and body[0][0] is op.ANY and follow == {_END} and not strict:
            return Cost(1, 0, False, 0)  # takes all that is left, or there is another line
        inner = self.sequence(body, begin | follow, strict=True)
        if nullable or inner.explodes or (strict and not clear):
            return _EXPLODES
        return Cost(1, 0 if clear else 1, False, 1)


def compile_pattern(pattern: str) -> Holds:
    """Return the test of a whole text against a pattern. Raises ValueError that says what is wrong with it.

    The test raises BadTarget for a text that is too long for a pattern that cannot be matched in linear time.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"regex has {len(pattern)} characters, limit {MAX_PATTERN}")
    try:
        cost = cost_of(pattern)
    except ValueError as error:
        linear = by_re2(pattern)  # RE2 has some words of its own
        if linear is None:
            raise ValueError(f"regex {pattern!r} is not valid: {error}") from None
        return linear
    if cost.degree <= 1 and not cost.explodes:
        return _backtracking(pattern)
    one_line = cost.one_line <= 1 and cost.degree == 2 and not cost.explodes
    if not one_line and (linear := by_re2(pattern)) is not None:
        return linear
    if cost.explodes or cost.degree > 2:
        raise ValueError(
            f"regex {pattern!r} may take very long on some texts: its repeats match the same text in many ways; "
            + (
                "and it has what RE2 does not know"
                if re2 is not None
                else "write it otherwise, or install xproxy[re2], which matches any pattern in linear time"
            )
        )
    return _bounded(pattern, lines=one_line)


def _backtracking(pattern: str) -> Holds:
    fullmatch = re.compile(pattern).fullmatch
    return lambda text: fullmatch(text) is not None


def _bounded(pattern: str, *, lines: bool) -> Holds:
    """Return the test by ``re``; ``lines``: only texts of several lines must be bounded."""
    fullmatch = re.compile(pattern).fullmatch

    def holds(text: str) -> bool:
        if len(text) > MAX_TEXT and not (lines and "\n" not in text):
            raise BadTarget(
                f"a text of {len(text)} characters, limit {MAX_TEXT} where a route looks at it by regex"
            )
        return fullmatch(text) is not None

    return holds


def by_re2(pattern: str) -> Holds | None:
    """Return the test of a whole text in linear time; None without RE2, and where it does not know the pattern."""
    if re2 is None:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        fullmatch = re2.compile(pattern, options).fullmatch
    except re2.error:
        return None

    def holds(text: str) -> bool:
        try:
            return fullmatch(text) is not None
        except UnicodeEncodeError:
            # Bytes of an RPC that are no text: one that no pattern means.
            plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return fullmatch(plain) is not None

    return holds
