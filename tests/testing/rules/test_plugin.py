"""A plugin that is not what it says is caught."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from tests.testing.broken import Broken, Case, NoSnapshot, check_case, ids
from xproxy.codecs.api import MAYBE, NO, YES, Hint, Verdict
from xproxy.model.status import Status
from xproxy.model.traits import Traits
from xproxy.testing.fakes.lines import LINES, LinesPlugin
from xproxy.testing.fakes.pieces import PiecesPlugin


def _traits(**changes: object) -> Traits:
    return attrs.evolve(LINES.traits, **changes)  # type: ignore[arg-type]  # each test says which field


class PartialStatus(LinesPlugin):
    def status_of(self, native_status: int) -> Status:
        return Status(native_status)


class Flaps(LinesPlugin):
    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return NO if len(prefix) == 5 else super().detect(prefix, hint)


class WantsWhatItHas(LinesPlugin):
    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return Verdict.more(1) if len(prefix) < 3 else super().detect(prefix, hint)


class DecidesEarly(LinesPlugin):
    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return super().detect(prefix, hint) if prefix else Verdict.more(9)


class Guesses(LinesPlugin):
    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return (MAYBE if len(prefix) < 3 else YES) if prefix else Verdict.more(1)


@attrs.frozen
class ClaimsTooMuch(LinesPlugin):
    """Is content with its first byte."""

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        if not prefix:
            return Verdict.more(1)
        return YES if prefix[:1] in b"~G" else NO


CASES: Sequence[Case] = [
    (LinesPlugin(name="Has Blanks"), "traits", "the name 'Has Blanks'"),
    (LinesPlugin(traits=_traits(api=99)), "traits", "api version 99"),
    (LinesPlugin(traits=_traits(headless=True)), "traits", "headless"),
    (Broken(codec=NoSnapshot), "traits", "go together"),
    (PiecesPlugin(traits=_traits(oneway=False)), "traits", "need sharing FRAMES"),
    (PartialStatus(), "native-status", "ValueError"),
    (Flaps(), "detection", "YES becomes NO"),
    (WantsWhatItHas(), "detection", "asks for 1"),
    (DecidesEarly(), "detection", "asked for 9 bytes, yet 1 decide"),
    (Guesses(), "detection", "MAYBE becomes YES"),
    (ClaimsTooMuch(), "claims", "says YES"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)
