"""The table of states names every state, once for each role."""

from __future__ import annotations

from xproxy.codecs.http1.state import CLIENT_STATES, SERVER_STATES, STATES, Reading, Writing
from xproxy.model.traits import Role


def test_each_state_belongs_to_a_role() -> None:
    assert set(STATES) == set(Role)
    assert {*SERVER_STATES, *CLIENT_STATES} == set(Reading)
    assert frozenset().union(*SERVER_STATES.values(), *CLIENT_STATES.values()) == set(Writing)


def test_states_of_one_role_only_are_not_in_the_other() -> None:
    assert Reading.IDLE not in SERVER_STATES
    assert Reading.UNTIL_CLOSE not in SERVER_STATES
    assert Reading.DONE not in CLIENT_STATES
    assert Reading.TUNNEL_ASKED not in CLIENT_STATES
    assert Writing.HEAD not in frozenset().union(*CLIENT_STATES.values())
    assert Writing.TUNNEL_ASKED not in frozenset().union(*SERVER_STATES.values())
