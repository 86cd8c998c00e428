"""Detection: ranked plugins × prefix → plugin | more | none. No I/O, no clock; the caller reads and keeps time.

Rules: candidates are asked in order of rank (a specific magic number beats a single byte), then of the listener.
YES wins when no better-ranked candidate still says MORE. MAYBE wins when no candidate says YES or MORE. YES, MAYBE
and NO are final for all longer prefixes, which makes the outcome the same for every split of the same bytes.

Where no more bytes come, or no more are looked at, a candidate's MORE counts as NO if it is faint. If it is not, the
bytes are that candidate's, which says in its own words what is missing; and nobody's, if there are several.
(contrast: mosn:pkg/protocol/api.go, whose answer depends on map order)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final, Protocol, TypeAlias, runtime_checkable

import attrs

from xproxy.codecs.api import NO_HINT, CodecPlugin, Hint, VerdictKind
from xproxy.model.limits import DEFAULT_LIMITS, Limits


@attrs.frozen
class Detected:
    """A codec recognises the connection."""

    plugin: CodecPlugin
    guessed: bool = False
    """It only said MAYBE, or MORE at the end of what there is, and nobody else could."""


@attrs.frozen
class NeedMore:
    """Nobody can say yet."""

    at_least: int
    """How many bytes, counted from the first, can bring a decision; above the length of the prefix given."""
    faint: bool = attrs.field(default=False, eq=False)
    """So far the bytes may be anybody's; see ``Verdict.faint``."""
    sole: bool = attrs.field(default=False, eq=False)
    """Only one codec can still be meant, and not faintly: where there is no fallback, it need not be waited for."""


@attrs.frozen
class Unrecognised:
    """No codec recognises the connection: use the listener's fallback."""

    meant: bool = attrs.field(default=False, eq=False)
    """Several codecs may still be meant, and more bytes do not come: this is not for a fallback."""


Detection: TypeAlias = Detected | NeedMore | Unrecognised
UNRECOGNISED: Final = Unrecognised()


@attrs.define(eq=False)
class DetectCounters:
    """How often detection ended how: plain ints, read when statistics are asked for."""

    recognised: dict[str, int] = attrs.field(factory=dict, metadata={"label": "codec"})
    """By codec name: it said YES."""
    guessed: dict[str, int] = attrs.field(factory=dict, metadata={"label": "codec"})
    """By codec name: it said MAYBE, or MORE at the end of what there was, and nobody else could."""
    unrecognised: int = 0
    """Every codec said NO, or the bound on bytes was reached."""
    unfinished: int = 0
    """The bytes stopped (end of input, timeout) before anybody could say."""


class Detector:
    """Detection among a listener's codecs. One object serves all of its connections: it keeps no state of theirs.

    Headless codecs (L4) and codecs whose server speaks first cannot be recognised and are never candidates.
    """

    def __init__(
        self,
        plugins: Sequence[CodecPlugin],
        limits: Limits = DEFAULT_LIMITS,
        counters: DetectCounters | None = None,
    ) -> None:
        """``plugins`` in the listener's order; ``counters`` may be shared with other detectors."""
        self.candidates: Final = ranked(plugins)
        self.counters: Final = counters if counters is not None else DetectCounters()
        self._max_bytes = limits.max_detect_bytes
        self._by_alpn = {
            id_: tuple(p for p in self.candidates if id_ in p.traits.alpn)
            for plugin in self.candidates
            for id_ in plugin.traits.alpn
        }

    def decide(self, prefix: bytes, hint: Hint = NO_HINT) -> Detection:
        """Judge the first bytes. Looks at no more than ``limits.max_detect_bytes`` of them."""
        return self._judge(prefix, hint, final=False)

    def conclude(self, prefix: bytes, hint: Hint = NO_HINT) -> Detected | Unrecognised:
        """Judge bytes that no more will follow (end of input, silence): who faintly says MORE counts as NO."""
        outcome = self._judge(prefix, hint, final=True)
        return UNRECOGNISED if isinstance(outcome, NeedMore) else outcome

    def _judge(self, prefix: bytes, hint: Hint, *, final: bool) -> Detection:
        bound = self._max_bytes
        if len(prefix) > bound:
            prefix = prefix[:bound]
        last = final or len(prefix) == bound
        maybe: CodecPlugin | None = None
        meant: CodecPlugin | None = None
        several = False
        waiting = at_least = 0
        # What was agreed on in a TLS handshake is what follows (RFC 7301 §3.2), whatever the bytes look like.
        agreed = None if hint.alpn is None else self._by_alpn.get(hint.alpn)
        for plugin in agreed or self.candidates:
            verdict = plugin.detect(prefix, hint)
            kind = verdict.kind
            if kind is VerdictKind.YES:
                if at_least and not last:
                    # It has won, unless who is asked first turns out to be meant: not to be waited for for long.
                    break
                return self._found(plugin, guessed=False)
            if kind is VerdictKind.MORE:
                wanted = max(verdict.at_least, len(prefix) + 1)
                at_least = min(at_least, wanted) if at_least else wanted
                waiting += 1
                if prefix and not verdict.faint:
                    several = meant is not None
                    meant = plugin
            elif kind is VerdictKind.MAYBE and maybe is None:
                maybe = plugin
        if at_least and not last:
            sole = waiting == 1 and meant is not None and maybe is None
            return NeedMore(min(at_least, bound), faint=meant is None, sole=sole)
        if meant is not None and not several:
            return self._found(meant, guessed=True)
        if maybe is not None:
            return self._found(maybe, guessed=True)
        if at_least and final:
            self.counters.unfinished += 1
        else:
            self.counters.unrecognised += 1
        return Unrecognised(meant=True) if several else UNRECOGNISED

    def _found(self, plugin: CodecPlugin, *, guessed: bool) -> Detected:
        counts = self.counters.guessed if guessed else self.counters.recognised
        counts[plugin.name] = counts.get(plugin.name, 0) + 1
        return Detected(plugin, guessed)


def ranked(plugins: Iterable[CodecPlugin]) -> tuple[CodecPlugin, ...]:
    """Return those which can be recognised, by rank; equal ranks keep their order."""
    found = [p for p in plugins if not (p.traits.headless or p.traits.server_first)]
    return tuple(sorted(found, key=lambda plugin: plugin.traits.rank))


@runtime_checkable
class HasExamples(Protocol):
    """A plugin that shows how its connections begin, so that overlaps with others are found at startup."""

    @property
    def examples(self) -> Sequence[bytes]:
        """First messages of a client, each from its first byte. The first 64 bytes of each are used."""
        ...


@attrs.frozen
class Overlap:
    """Two codecs claim the same bytes: the order alone decides between them."""

    winner: str
    loser: str
    prefix: bytes
    """The shortest bytes found that both claim."""
    same_rank: bool
    """Only the listener's order keeps them apart."""

    def __str__(self) -> str:
        by = "the listener's order" if self.same_rank else "rank"
        shown = self.prefix[:16].hex(" ") + (" …" if len(self.prefix) > 16 else "")
        return (
            f"{self.winner} and {self.loser} both claim connections that begin with {shown}: "
            f"{self.winner} wins by {by}"
        )


_EXAMPLE_BYTES: Final = 64


def overlaps(plugins: Sequence[CodecPlugin]) -> list[Overlap]:
    """Find prefixes that two codecs both claim with YES or MAYBE: at most one finding a pair, in order of rank.

    Looks at every first byte (alone, and followed by zeros) and at each plugin's ``examples``. A startup check: it
    finds what these show, and proves nothing beyond them.
    """
    candidates = ranked(plugins)
    claims: dict[str, set[bytes]] = {plugin.name: set() for plugin in candidates}
    for prefix in _corpus(candidates):
        for plugin in candidates:
            if plugin.detect(prefix, NO_HINT).kind in (VerdictKind.YES, VerdictKind.MAYBE):
                claims[plugin.name].add(prefix)
    found: list[Overlap] = []
    for first, second in combinations(candidates, 2):
        both = claims[first.name] & claims[second.name]
        if both:
            shortest = min(both, key=lambda prefix: (len(prefix), prefix))
            same = first.traits.rank == second.traits.rank
            found.append(Overlap(first.name, second.name, shortest, same))
    return found


def _corpus(plugins: Iterable[CodecPlugin]) -> set[bytes]:
    corpus = {bytes((first, *filler)) for first in range(256) for filler in ((), (0,) * 31)}
    for plugin in plugins:
        if isinstance(plugin, HasExamples):
            for example in plugin.examples:
                corpus.update(
                    example[:size] for size in range(1, min(len(example), _EXAMPLE_BYTES) + 1)
                )
    return corpus
