"""Who claims a connection can read it: every installed codec's own decoder is the judge of its YES."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.test_first_bytes import RECORDED
from xproxy.codecs.api import NO_HINT, CodecPlugin, VerdictKind
from xproxy.codecs.detect import Detector, HasExamples, NeedMore, Unrecognised
from xproxy.registry import default_registry
from xproxy.testing.foreign import FOREIGN, Foreign
from xproxy.testing.rules.plugin import claim, refusal
from xproxy.testing.subject import Subject

PLUGINS: Final = default_registry().codecs()
SUBJECTS: Final = [
    Subject(plugin)
    for plugin in PLUGINS
    if not (plugin.traits.headless or plugin.traits.server_first)
]
OWN: Final = [data for _, _, data in RECORDED] + [
    example for plugin in PLUGINS if isinstance(plugin, HasExamples) for example in plugin.examples
]
each = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.plugin.name)
changes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=4
)


def mutated(data: bytes, steps: list[tuple[int, int, int]]) -> bytes:
    changed = bytearray(data)
    for at, way, byte in steps:
        at %= len(changed) + 1
        if way == 0:
            changed[at : at + 1] = bytes((byte,))
        elif way == 1:
            changed[at:at] = bytes((byte,))
        elif at < len(changed) > 1:
            del changed[at]
    return bytes(changed)


@each
@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from([*OWN, *(foreign.data for foreign in FOREIGN)]),
    steps=changes,
)
def test_what_is_claimed_is_not_refused(
    subject: Subject, data: bytes, steps: list[tuple[int, int, int]]
) -> None:
    claim(subject, mutated(data, steps))


@each
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_noise_that_is_claimed_is_not_refused(subject: Subject, data: bytes) -> None:
    claim(subject, data)


@each
@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.name)
def test_a_stranger_is_not_claimed(subject: Subject, foreign: Foreign) -> None:
    kinds = {
        subject.plugin.detect(foreign.data[:size], NO_HINT).kind
        for size in range(len(foreign.data) + 1)
    }
    assert VerdictKind.YES not in kinds
    assert VerdictKind.MAYBE not in kinds


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.name)
def test_a_stranger_reaches_the_fallback(foreign: Foreign) -> None:
    outcome = Detector(PLUGINS).decide(foreign.data)
    if isinstance(outcome, NeedMore):
        assert outcome.faint, "after a short silence"
        outcome = Detector(PLUGINS).conclude(foreign.data)
    assert outcome == Unrecognised()


@each
def test_its_own_examples_are_claimed(subject: Subject) -> None:
    plugin: CodecPlugin = subject.plugin
    if isinstance(plugin, HasExamples):
        for example in plugin.examples:
            assert claim(subject, example) > 0
            assert refusal(subject, example) == ""
