"""What is bound to a connection ends with it."""

from __future__ import annotations

from xproxy.connection.bindings import Bindings
from xproxy.stream.exchange import Closable


class Connection(Bindings):
    def __init__(self) -> None:
        self._bindings: dict[object, Closable] | None = None


class Bound:
    closed = 0

    def close_soon(self) -> None:
        self.closed += 1


def test_bound_things_are_found_by_key_and_forgotten() -> None:
    connection, bound = Connection(), Bound()
    assert connection.bound("a") is None
    connection.unbind("a")
    connection.bind("a", bound)
    assert connection.bound("a") is bound
    assert connection.bound("b") is None
    connection.unbind("a")
    connection.unbind("a")
    assert connection.bound("a") is None
    connection.close_bound()
    assert bound.closed == 0


def test_all_that_is_bound_is_closed_once() -> None:
    connection, one, two = Connection(), Bound(), Bound()
    connection.bind("a", one)
    connection.bind("b", two)
    connection.close_bound()
    connection.close_bound()
    assert (one.closed, two.closed) == (1, 1)
    assert connection.bound("a") is None


def test_what_unbinds_itself_while_it_is_closed_does_no_harm() -> None:
    connection = Connection()

    class Leaving:
        def close_soon(self) -> None:
            connection.unbind("a")

    other = Bound()
    connection.bind("a", Leaving())
    connection.bind("b", other)
    connection.close_bound()
    assert other.closed == 1
