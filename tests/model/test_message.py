from __future__ import annotations

import attrs
import pytest

from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status

HEAD = RequestHead(
    service="example:80", method="GET", headers=Headers([("A", "1")]), extra=Target(path="/x?y=1")
)


def test_adding_remembers_the_head_it_began_with() -> None:
    once = HEAD.adding((("B", "2"),))
    twice = once.adding((("C", "3"),))
    assert list(twice.headers) == [("A", "1"), ("B", "2"), ("C", "3")]
    assert twice.base is HEAD
    assert twice.added == (("B", "2"), ("C", "3"))
    assert list(HEAD.headers) == [("A", "1")]
    assert (twice.service, twice.method, twice.extra) == (HEAD.service, HEAD.method, HEAD.extra)


def test_any_other_change_forgets_the_base() -> None:
    derived = HEAD.adding((("B", "2"),))
    for changed in (
        attrs.evolve(derived, method="PUT"),
        derived.with_headers(Headers([("Z", "9")])),
    ):
        assert changed.base is None
        assert changed.added == ()


def test_heads_are_frozen_and_compared_by_value() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        HEAD.method = "PUT"  # type: ignore[misc]  # that is the point
    assert attrs.evolve(HEAD) == HEAD
    assert HEAD.adding((("B", "2"),)) == attrs.evolve(HEAD, headers=HEAD.headers.add("B", "2"))


@pytest.mark.parametrize(
    ("method", "extra", "idempotent"),
    [
        ("GET", Target(path="/"), True),
        ("DELETE", Target(path="/"), True),
        ("POST", Target(path="/"), False),
        ("PATCH", Target(path="/"), False),
        ("GET", None, False),
    ],
)
def test_only_web_methods_are_idempotent_by_definition(
    method: str, extra: Target | None, idempotent: bool
) -> None:
    assert RequestHead(service="", method=method, extra=extra).idempotent is idempotent


def test_path_is_empty_without_a_target() -> None:
    assert HEAD.path == "/x?y=1"
    assert RequestHead(service="a", method="b").path == ""


def test_a_response_head_without_native_status_is_a_local_reply() -> None:
    assert ResponseHead(status=Status.OK).native_status is None


@pytest.mark.parametrize(
    ("target", "code", "status", "granted"),
    [
        (Target(path=""), 200, Status.OK, True),
        (Target(path=""), None, Status.OK, True),
        (Target(path=""), 302, Status.OK, False),
        (Target(path=""), 403, Status.PERMISSION_DENIED, False),
        (Target(path="/", upgrade="x"), 101, Status.OK, True),
        (Target(path="/", upgrade="x"), 200, Status.OK, False),
        (Target(path="/", upgrade="x"), None, Status.OK, False),
        (Target(path="/"), 101, Status.OK, False),
        (None, 200, Status.OK, False),
    ],
)
def test_what_grants_a_tunnel(
    target: Target | None, code: int | None, status: Status, granted: bool
) -> None:
    head = RequestHead(service="a", method="GET", extra=target)
    assert head.grants(ResponseHead(status=status, native_status=code)) is granted
