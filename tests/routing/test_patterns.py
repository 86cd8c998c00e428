from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import a_round, rounds
from xproxy.model.errors import BadTarget
from xproxy.routing import patterns
from xproxy.routing.patterns import MAX_PATTERN, MAX_TEXT, by_re2, compile_pattern, cost_of

LINEAR = [
    "/api/v[0-9]+/users/[^/]+",
    ".*foo",
    "(/[a-z]+)*",
    "([a-z]+/)*x",
    "(a|ab)*c",
    r"^[\w.-]+@[\w.-]+$",
    "a{1,1000}b",
    r"([0-9]{1,3}\.){3}[0-9]{1,3}",
    "(?i)k.*s",
    "a*?b",
    r"(foo|bar)\..*",
    "",
    "(?=.*a).*",
    "(?>a+)b",
    "a++b",
]
ONE_LINE = ["(.*; )?user=jason(;.*)?", ".*foo.*"]
SQUARE = [".*a.*b", r"(.*)\1", "(?:[^/]+/)*[^/]*", "[^x]*a[^x]*ab"]
TOO_SLOW = [
    "(a+)+",
    "(a*)*",
    "(a|a)*b",
    "(a|aa)+b",
    r"(\w+\s?)*",
    "(x+x+)+y",
    "(a?b?)*c",
    "(a?){20}a{20}",
    "((a?){16}){16}",
    "(.*a){12}",
    ".*a.*b.*c",
    "(?i)(ks|Ks)*x",
    "(é|É|.)*x",
    "([ab]x|[bc]x)*d",
    r"(\dy|[0-9]y)*x",
    "(a+|b)*c|(a+)+",
    "(?:a+)+?b",
    "(?=(a+)+b).*",
]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do without RE2."""
    monkeypatch.setattr(patterns, "re2", None)


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail where a test takes as long as a hundred million rounds of a loop: what explodes takes for ever."""
    begin = time.thread_time()
    yield
    spent = time.thread_time() - begin
    assert spent < 1e8 * a_round()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("pattern", LINEAR)
def test_what_is_linear_is_taken_as_it_is(pattern: str) -> None:
    cost = cost_of(pattern)
    assert not cost.explodes
    assert cost.degree <= 1
    compile_pattern(pattern)("x" * 100_000)


@pytest.mark.usefixtures("bare", "deadline")
@pytest.mark.parametrize("pattern", [*ONE_LINE, *SQUARE])
def test_what_grows_with_the_square_takes_texts_of_a_bounded_length(pattern: str) -> None:
    holds = compile_pattern(pattern)
    for text in ("aab/; user=jason;foo"[:20] * 102, "a" * MAX_TEXT, "\n" * MAX_TEXT):
        holds(text)
    with pytest.raises(BadTarget, match=f"limit {MAX_TEXT}"):
        holds("a" * MAX_TEXT + "\n")
    if pattern in ONE_LINE:
        holds("; user=jason;x" * 5000)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("pattern", TOO_SLOW)
def test_what_can_explode_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"very long on some texts.*xproxy\[re2\]"):
        compile_pattern(pattern)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("pattern", [*SQUARE, *TOO_SLOW])
def test_with_re2_every_pattern_is_linear_or_refused(pattern: str) -> None:
    pytest.importorskip("re2")
    if "(?=" in pattern:
        with pytest.raises(ValueError, match="what RE2 does not know"):
            compile_pattern(pattern)
        return
    holds = compile_pattern(pattern)
    for text in ("a" * 60_000 + "!", "ab" * 30_000, "a/" * 30_000):
        try:
            holds(text)
        except BadTarget:
            assert pattern == r"(.*)\1", "the one that RE2 does not know"
    assert holds("\udc80") in (True, False), "bytes of an RPC that are no text"


def test_mistakes() -> None:
    for pattern in ("(", "a{2,1}", "*a"):
        with pytest.raises(ValueError, match="is not valid"):
            compile_pattern(pattern)
    with pytest.raises(ValueError, match=f"limit {MAX_PATTERN}"):
        compile_pattern("a" * (MAX_PATTERN + 1))


# ---- the judge: count the steps of a backtracking matcher of our own on texts that grow

ATOMS = st.sampled_from(["a", "b", "[ab]", ".", "[^a]", "c"])


def _patterns() -> st.SearchStrategy[str]:
    return st.recursive(
        ATOMS,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=2).map(lambda two: f"(?:{two[0]}|{two[1]})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}"])).map(
                lambda two: f"(?:{two[0]}){two[1]}"
            ),
        ),
        max_leaves=6,
    )


@settings(max_examples=300, deadline=None)
@given(
    _patterns(), st.text("abc", max_size=4), st.text("abc", max_size=4), st.text("abc", max_size=2)
)
def test_what_passes_never_takes_long(pattern: str, start: str, pump: str, end: str) -> None:
    """A text that is pumped up is how a pattern explodes; what was found linear or square must not."""
    cost = cost_of(pattern)
    if cost.explodes or cost.degree > 2 or not pump:
        return
    compiled = re.compile(pattern)
    text = start + pump * (400 // len(pump)) + end
    bound = 3e7
    assert rounds(lambda: compiled.fullmatch(text), bound) < bound


@settings(max_examples=200, deadline=None)
@given(_patterns(), st.lists(st.text("abc", max_size=8), max_size=5))
def test_both_engines_say_the_same(pattern: str, texts: list[str]) -> None:
    pytest.importorskip("re2")
    linear = by_re2(pattern)
    if linear is None:
        return
    for text in texts:
        assert linear(text) is (re.fullmatch(pattern, text) is not None)
