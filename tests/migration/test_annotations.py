"""What an annotation lets a field hold."""

from __future__ import annotations

import math
import socket
import typing

import pytest

from xproxy.connection.wire import Parts
from xproxy.migration.annotations import check_of, kinds_of
from xproxy.model.address import Address

PARTS = Parts(codec=b"codec", stream=b"", unsent=b"rest")
HERE = Address("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1], [True, 1.0, "1"]),
        (float, [1.0, math.inf], [1, math.nan]),
        (int | None, [None, 1], ["x"]),
        (typing.Optional[str], [None, "x"], [b"x"]),  # noqa: UP045  # as others may write it
        (tuple[int, ...], [(), (1, 2)], [("a",), [1]]),
        (tuple[int, str], [(1, "a")], [(1,), (1, 2), ("a", 1)]),
        (bytes, [b""], [""]),
        (Address, [HERE], [None, PARTS]),
        (object, [None, 1, ()], []),
    ],
)
def test_annotations_are_checked(annotation: object, good: list[object], bad: list[object]) -> None:
    check = check_of(annotation)
    assert all(check(value) for value in good)
    assert not any(check(value) for value in bad)


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (int, {int}),
        (int | None, {int, type(None)}),
        (Address | None, {Address, type(None)}),
        (typing.NewType("Id", int), {int}),
        (float, set()),  # may be no number
        (tuple[int, ...], set()),
        (bytes | tuple[int, ...], set()),
        (socket.socket, set()),
        (object, set()),
    ],
)
def test_where_a_class_tells_nothing_more_is_asked(annotation: object, kinds: set[type]) -> None:
    assert kinds_of(annotation) == kinds


def test_a_field_that_nothing_could_be_written_into_is_a_mistake_here() -> None:
    with pytest.raises(TypeError, match="nothing that is written down"):
        check_of(list[int])
    with pytest.raises(TypeError, match="nothing that is written down"):
        check_of(set)
