"""Detection is ranked, bounded, counted, and the same for every split of the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.api import MAYBE, NO, YES, Codec, CodecPlugin, Hint, Verdict
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.detect import (
    DetectCounters,
    Detected,
    Detection,
    Detector,
    NeedMore,
    Unrecognised,
    overlaps,
    ranked,
)
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Sharing, Traits


@attrs.frozen(kw_only=True)
class Fake:
    """Recognises connections that begin with ``magic``."""

    name: str
    magic: bytes = b""
    rank: int = 100
    verdict: Verdict = YES
    """What it says once the magic is there."""
    faint: int = 0
    """How many bytes of its magic may be anybody's."""
    headless: bool = False
    server_first: bool = False

    @property
    def traits(self) -> Traits:
        return Traits(
            sharing=Sharing.SERIAL,
            rank=self.rank,
            headless=self.headless,
            server_first=self.server_first,
        )

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        if hint.alpn not in (None, self.name):
            return NO
        size = len(self.magic)
        if prefix[:size] != self.magic[: len(prefix)]:
            return NO
        return (
            self.verdict
            if len(prefix) >= size
            else Verdict.more(len(prefix) + 1, faint=len(prefix) <= self.faint)
        )

    def open(self, role: Role, limits: Limits) -> Codec:
        raise AssertionError("detection opens nothing")


@attrs.frozen(kw_only=True)
class WithExamples(Fake):
    examples: tuple[bytes, ...] = ()


def test_the_first_yes_wins() -> None:
    one, two = Fake(name="one", magic=b"ab"), Fake(name="two", magic=b"xy")
    detector = Detector([one, two])
    assert detector.decide(b"xyz") == Detected(two)
    assert detector.decide(b"ab") == Detected(one)
    assert detector.decide(b"q") == Unrecognised()
    assert detector.counters.recognised == {"two": 1, "one": 1}
    assert detector.counters.unrecognised == 1


def test_a_better_rank_that_needs_more_is_waited_for() -> None:
    short, long = Fake(name="short", magic=b"P", rank=50), Fake(name="long", magic=b"PRI", rank=10)
    detector = Detector([short, long])
    assert detector.decide(b"P") == NeedMore(2)
    assert detector.decide(b"PRI") == Detected(long)
    assert detector.decide(b"PU") == Detected(short)
    assert Detector([short, attrs.evolve(long, rank=90)]).decide(b"P") == Detected(short)


def test_equal_ranks_keep_the_listeners_order() -> None:
    one, two = Fake(name="one", magic=b"a"), Fake(name="two", magic=b"a")
    assert Detector([one, two]).decide(b"a") == Detected(one)
    assert Detector([two, one]).decide(b"a") == Detected(two)


def test_maybe_wins_only_when_nobody_else_can() -> None:
    guess = Fake(name="guess", verdict=MAYBE, rank=1)
    sure = Fake(name="sure", magic=b"sure")
    detector = Detector([guess, sure])
    assert detector.decide(b"s") == NeedMore(2)
    assert detector.decide(b"sure") == Detected(sure)
    assert detector.decide(b"x") == Detected(guess, guessed=True)
    assert detector.counters.guessed == {"guess": 1}


def test_a_hint_reaches_the_plugins() -> None:
    detector = Detector([Fake(name="h2", magic=b"P"), Fake(name="http/1.1", magic=b"P")])
    assert isinstance(detector.decide(b"P", Hint(tls=True, alpn="http/1.1")), Detected)
    assert detector.counters.recognised == {"http/1.1": 1}


def test_the_bound_on_bytes_ends_the_waiting() -> None:
    endless = Fake(name="endless", magic=b"a" * 100)
    detector = Detector([endless], Limits(max_detect_bytes=16))
    assert detector.decide(b"a" * 15) == NeedMore(16)
    # It is his as far as anybody can tell; if only faintly so, it is nobody's.
    assert detector.decide(b"a" * 16) == Detected(endless, guessed=True)
    assert detector.decide(b"a" * 200) == Detected(endless, guessed=True)
    endless = Fake(name="endless", magic=b"a" * 100, faint=100)
    detector = Detector([endless], Limits(max_detect_bytes=16))
    assert detector.decide(b"a" * 16) == Unrecognised()
    assert detector.decide(b"a" * 200) == Unrecognised()
    fallback = Fake(name="guess", verdict=MAYBE)
    bounded = Detector([endless, fallback], Limits(max_detect_bytes=16))
    assert bounded.decide(b"a" * 200) == Detected(fallback, guessed=True)


def test_bytes_that_end_are_judged_as_they_are() -> None:
    long = Fake(name="long", magic=b"abc", rank=1)
    detector = Detector([long, Fake(name="short", magic=b"a"), Fake(name="g", verdict=MAYBE)])
    assert detector.conclude(b"ab") == Detected(detector.candidates[1])
    assert detector.conclude(b"") == Detected(detector.candidates[2], guessed=True)
    counters = DetectCounters()
    alone = Detector([attrs.evolve(long, faint=3)], counters=counters)
    assert alone.conclude(b"ab") == Unrecognised()
    assert alone.conclude(b"x") == Unrecognised()
    assert (counters.unfinished, counters.unrecognised) == (1, 1)


def test_what_one_alone_can_mean_is_for_nobody_else() -> None:
    one = Fake(name="one", magic=b"abcdef", faint=2)
    two = Fake(name="two", magic=b"abxdef", faint=2)
    three = Fake(name="three", magic=b"abcxyz", faint=2)
    detector = Detector([one, two])
    for prefix, faint, sole in ((b"", True, False), (b"ab", True, False), (b"abc", False, True)):
        outcome = detector.decide(prefix)
        assert isinstance(outcome, NeedMore)
        assert (outcome.faint, outcome.sole) == (faint, sole), prefix
    assert detector.conclude(b"ab") == Unrecognised()
    assert detector.conclude(b"abc") == Detected(one, guessed=True)
    both = Detector([one, two, three])
    needed = both.decide(b"abc")
    assert isinstance(needed, NeedMore)
    assert (needed.faint, needed.sole) == (False, False)
    torn = both.conclude(b"abc")
    assert isinstance(torn, Unrecognised)
    assert torn.meant, "which of two it is, nobody can tell: no fallback either"


def test_what_cannot_be_recognised_is_no_candidate() -> None:
    mysql = Fake(name="mysql", server_first=True)
    assert ranked([OPAQUE, mysql, BOLT]) == (BOLT,)
    assert Detector([OPAQUE]).decide(b"") == Unrecognised()


PLUGINS: tuple[CodecPlugin, ...] = (
    BOLT,
    Fake(name="http", magic=b"G", rank=50),
    Fake(name="preface", magic=b"GRI * ", rank=10),
    Fake(name="digit", magic=b"\x01\x02", rank=20),
    Fake(name="guess", magic=b"\x02", verdict=MAYBE, rank=5),
)


def settle(detector: Detector, data: bytes, cuts: Sequence[int]) -> Detection:
    """Read as a connection does: ask again with each piece that arrives."""
    for cut in [*sorted(cuts), len(data)]:
        outcome = detector.decide(data[:cut])
        if not isinstance(outcome, NeedMore):
            return outcome
        assert cut < outcome.at_least <= 64
    return detector.conclude(data)


@settings(max_examples=300)
@given(
    head=st.sampled_from((b"", *BOLT.examples, b"GRI * ", b"\x01\x02", b"\x02")),
    tail=st.binary(max_size=80),
    keep=st.integers(0, 40),
    cuts=st.lists(st.integers(0, 100), max_size=12),
)
def test_every_split_gives_the_same_outcome(
    head: bytes, tail: bytes, keep: int, cuts: list[int]
) -> None:
    data = head[:keep] + tail
    detector = Detector(PLUGINS, Limits(max_detect_bytes=64))
    whole = detector.conclude(data)
    # A connection that ended is judged by all of its bytes; one that goes on, by the first that suffice.
    if isinstance(detector.decide(data), NeedMore):
        assert settle(detector, data, [c for c in cuts if c <= len(data)]) == whole
    else:
        assert settle(detector, data, [c for c in cuts if c <= len(data)]) == detector.decide(data)


def test_overlaps_are_found_from_examples_and_first_bytes() -> None:
    framed = Fake(name="framed", magic=b"\x01\x01", rank=60)
    found = overlaps([framed, BOLT, Fake(name="http", magic=b"G")])
    assert [(o.winner, o.loser, o.same_rank) for o in found] == [("bolt", "framed", False)]
    assert "bolt and framed both claim connections that begin with 01 01" in str(found[0])
    assert "bolt wins by rank" in str(found[0])


def test_overlaps_of_one_rank_are_said_to_hang_on_order() -> None:
    one = WithExamples(name="one", magic=b"hello", examples=(b"hello world",))
    found = overlaps([one, Fake(name="two", magic=b"hell")])
    assert [str(o) for o in found] == [
        "one and two both claim connections that begin with 68 65 6c 6c 6f: one wins by the listener's order"
    ]


@pytest.mark.parametrize("plugins", [[], [BOLT], [BOLT, OPAQUE]])
def test_no_overlap_no_finding(plugins: list[CodecPlugin]) -> None:
    assert overlaps(plugins) == []


def test_only_who_was_agreed_on_in_a_handshake_is_asked() -> None:
    class Greedy(Fake):
        """Takes everything, whatever the hint."""

        def detect(self, prefix: bytes, hint: Hint) -> Verdict:
            return YES

    class Web(Greedy):
        @property
        def traits(self) -> Traits:
            return attrs.evolve(super().traits, alpn=("web",))

    greedy, web = Greedy(name="greedy", rank=1), Web(name="web", rank=9)
    detector = Detector([greedy, web])
    assert detector.decide(b"", Hint(tls=True, alpn="web")) == Detected(web)
    assert detector.decide(b"", Hint(tls=True, alpn="other")) == Detected(greedy)
    assert detector.decide(b"", Hint(tls=True)) == Detected(greedy)
