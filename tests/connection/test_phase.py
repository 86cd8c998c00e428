"""How far a connection is: every event has its place in every phase, and nothing leads back."""

from __future__ import annotations

from itertools import product

import pytest

from xproxy.connection.phase import INPUT_OVER, LAST, READS, TRANSITIONS, Event, Phase

ORDER = list(Phase)


def test_the_table_knows_every_event_in_every_phase() -> None:
    assert set(TRANSITIONS) == set(product(Phase, Event))


def test_nothing_leads_back() -> None:
    reachable = {phase: {phase} for phase in Phase}
    for _ in Phase:
        for (phase, _event), after in TRANSITIONS.items():
            reachable[phase] |= reachable[after]
    for phase, others in reachable.items():
        for other in others - {phase}:
            assert phase not in reachable[other], f"{phase} and {other} lead to one another"


@pytest.mark.parametrize("event", Event)
def test_an_event_that_comes_twice_changes_nothing_more(event: Event) -> None:
    for phase in Phase:
        once = TRANSITIONS[phase, event]
        assert TRANSITIONS[once, event] is once


@pytest.mark.parametrize("phase", set(Phase) - READS)
def test_who_is_not_read_is_never_read_again(phase: Phase) -> None:
    assert not READS & {TRANSITIONS[phase, event] for event in Event}


@pytest.mark.parametrize("phase", LAST)
def test_no_stream_begins_again(phase: Phase) -> None:
    assert {TRANSITIONS[phase, event] for event in Event} <= LAST


@pytest.mark.parametrize("phase", INPUT_OVER)
def test_input_that_is_over_stays_so_until_all_is(phase: Phase) -> None:
    after = {TRANSITIONS[phase, event] for event in Event}
    assert after <= INPUT_OVER | {Phase.BROKEN, Phase.CLOSED}
