from __future__ import annotations

from xproxy.model.address import Address
from xproxy.proxy.silent import SilentDestinations

A, B, C = ((Address("192.0.2.1", port), False) for port in (1, 2, 3))


def test_a_destination_is_known_for_a_while() -> None:
    known = SilentDestinations()
    assert not known.known(A, 0.0)
    known.note(A, 10.0, 8)
    assert known.known(A, 9.9)
    assert not known.known((A[0], True), 9.9), "inside TLS is another place"
    assert not known.known(A, 10.0)
    assert len(known) == 0


def test_the_one_that_was_seen_longest_ago_makes_room() -> None:
    known = SilentDestinations()
    for destination in (A, B, A, C):
        known.note(destination, 10.0, 2)
    assert [known.known(destination, 0.0) for destination in (A, B, C)] == [True, False, True]
