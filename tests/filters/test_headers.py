from __future__ import annotations

from typing import Any

import attrs
import pytest

from xproxy.filters.headers import ChangeHeaders, HeaderChanges
from xproxy.model.errors import RouteNotFound
from xproxy.model.message import recurring

Kit = Any  # Any: conftest.py cannot be imported


async def test_fields_are_removed_then_set_then_added(kit: Kit) -> None:
    changes = HeaderChanges(
        remove=("a", "b"), set={"B": "set", "c": "3"}, add={"c": "4", "d": ("5", "6")}
    )
    request = kit.web("/", ("A", "1"), ("b", "2"), ("C", "0"), ("x", "y"))
    upstream = kit.upstream()
    await ChangeHeaders(request=changes)(request, upstream)
    assert upstream.seen[0].headers.pairs == (
        ("C", "3"),
        ("x", "y"),
        ("B", "set"),
        ("c", "4"),
        ("d", "5"),
        ("d", "6"),
    )


async def test_the_same_head_becomes_the_same_head(kit: Kit) -> None:
    for text in ("plain", "%method% %REQ(host-name)%"):
        filter_ = ChangeHeaders(request=HeaderChanges(set={"x": text}))
        request, upstream = kit.web(), kit.upstream()
        head = recurring(request.head)
        for _ in range(2):
            request.head = head
            await filter_(request, upstream)
        assert upstream.seen[0] is upstream.seen[1]
        assert upstream.seen[0] is not head


async def test_a_head_that_does_not_change_stays_the_same_object(kit: Kit) -> None:
    request, upstream = kit.web(), kit.upstream()
    head = request.head
    await ChangeHeaders(request=HeaderChanges(remove=("gone",)))(request, upstream)
    assert upstream.seen[0] is head


async def test_what_depends_on_the_connection_is_not_remembered_by_head(kit: Kit) -> None:
    filter_ = ChangeHeaders(request=HeaderChanges(set={"x-peer": "%peer_address%"}))
    request, upstream = kit.web(), kit.upstream()
    head = request.head
    for peer in ("192.0.2.8", "192.0.2.9"):
        request.head = head
        request.connection.peer = attrs.evolve(request.connection.peer, host=peer)
        await filter_(request, upstream)
    assert [h.headers["x-peer"] for h in upstream.seen] == ["192.0.2.8:40000", "192.0.2.9:40000"]


async def test_variables_have_values(kit: Kit) -> None:
    request, upstream = kit.web("/x", ("user", "jason")), kit.upstream()
    request.record.route = "main[0]"
    text = "%host% %path% %method% %protocol% %route% %cluster% %REQ(user)% %req(no)% 100%%"
    await ChangeHeaders(request=HeaderChanges(set={"x": text}))(request, upstream)
    assert upstream.seen[0].headers["x"] == "reviews:9080 /x GET http1 main[0] - jason - 100%"


async def test_a_value_cannot_break_out_of_its_header(kit: Kit) -> None:
    request, upstream = kit.rpc(("user", "a\r\nevil: 1\x00\tä")), kit.upstream()
    await ChangeHeaders(request=HeaderChanges(set={"x": "%REQ(user)%"}))(request, upstream)
    assert upstream.seen[0].headers["x"] == "a\\x0d\\x0aevil: 1\\x00\tä"


async def test_responses_are_changed_and_remembered(kit: Kit) -> None:
    filter_ = ChangeHeaders(response=HeaderChanges(set={"server": "x"}, remove=("secret",)))
    response = kit.response(200, ("Server", "y"), ("secret", "z"))
    head = recurring(response.head)
    first = (await filter_(kit.web(), kit.upstream(response))).head
    assert first.headers.pairs == (("Server", "x"),)
    response.head = head
    assert (await filter_(kit.web(), kit.upstream(response))).head is first


async def test_responses_may_say_what_became_of_the_request(kit: Kit) -> None:
    filter_ = ChangeHeaders(response=HeaderChanges(add={"x": "%response_code% %RESP(a)% %route%"}))
    request = kit.web()
    request.record.route = "r"
    for _ in range(2):
        response = await filter_(request, kit.upstream(kit.response(404, ("a", "b"))))
        assert response.head.headers["x"] == "404 b r"


async def test_errors_pass(kit: Kit) -> None:
    filter_ = ChangeHeaders(response=HeaderChanges(set={"a": "b"}))
    with pytest.raises(RouteNotFound):
        await filter_(kit.web(), kit.upstream(RouteNotFound("x")))


@pytest.mark.parametrize(
    "changes",
    [
        {"set": {"x": "%pth%"}},
        {"set": {"x": "%bytes_sent%"}},
        {"set": {"x": "%response_code%"}},
        {"set": {"x": "50%"}},
    ],
)
def test_a_variable_that_is_unknown_or_too_late_is_refused(changes: Any) -> None:
    with pytest.raises(ValueError, match="%"):
        ChangeHeaders(request=HeaderChanges(**changes))


@pytest.mark.parametrize("name", ["", "a b", "a:b", ":path", "Host", "content-length", "a\n"])
def test_a_name_that_is_no_filters_to_change_is_refused(name: str) -> None:
    for changes in ({"remove": (name,)}, {"set": {name: "x"}}, {"add": {name: "x"}}):
        with pytest.raises(ValueError, match="is not"):
            HeaderChanges(**changes)


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ValueError, match="case"):
        HeaderChanges(set={"x": "1", "X": "2"})


async def test_fields_that_are_new_are_added_to_the_head_as_it_came(kit: Kit) -> None:
    changes = HeaderChanges(remove=("gone",), set={"x": "1"}, add={"y": "2"})
    request, upstream = kit.web("/", ("y", "0")), kit.upstream()
    head = request.head
    await ChangeHeaders(request=changes)(request, upstream)
    assert upstream.seen[0].base is head
    assert upstream.seen[0].headers.pairs == (("y", "0"), ("x", "1"), ("y", "2"))


async def test_a_head_made_for_one_request_is_not_remembered(kit: Kit) -> None:
    filter_ = ChangeHeaders(request=HeaderChanges(set={"x": "1"}))
    upstream = kit.upstream()
    head = recurring(kit.web().head.adding((("x-request-id", "1"),)))
    for _ in range(2):
        request = kit.web()
        request.head = head
        await filter_(request, upstream)
    first, second = upstream.seen
    assert first.headers == second.headers
    assert first is not second


def test_a_value_with_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="control characters"):
        HeaderChanges(add={"x": ("a", "b\nc")})
