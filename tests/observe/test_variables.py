from __future__ import annotations

import attrs
import pytest
import trio

from xproxy.model.message import Described, RequestHead, Rpc
from xproxy.model.status import Status
from xproxy.observe.variables import (
    ENVOY_NAMES,
    REQUEST_ID,
    VARIABLES,
    Moment,
    Phase,
    header_variable,
    moment_of,
    timestamp,
)

EXPECTED = {
    "start_time": "2023-11-14T22:13:20.250Z",
    "method": "GET",
    "path": "/a?b=c",
    "host": "reviews:9080",
    "service": "reviews:9080",
    "rpc_service": None,
    "rpc_method": None,
    "dialect": "http1",
    "target": "reviews:9080/a?b=c",
    "protocol": "http1",
    "listener": "edge",
    "peer_address": "[::1]:40000",
    "peer_ip": "::1",
    "local_address": "192.0.2.1:15001",
    "peer_identity": None,
    "sni": "reviews.local",
    "alpn": None,
    "tls_version": None,
    "tls_cipher": None,
    "connection_id": 7,
    "request_id": "abc",
    "route": "main[0]",
    "cluster": "reviews-v1",
    "response_code": 503,
    "status": "unavailable",
    "response_flags": "UF,URX",
    "detail": None,
    "endpoint": "127.0.0.1:9081",
    "attempts": 2,
    "duration": 250.0,
    "bytes_received": 10,
    "bytes_sent": 20,
}


def test_every_variable_has_its_value(moment: Moment) -> None:
    assert {name: variable.read(moment) for name, variable in VARIABLES.items()} == EXPECTED


def test_what_is_not_there_is_none(moment: Moment) -> None:
    moment.request.head = RequestHead(service="", method="")
    moment.request.record.endpoint = None
    moment.request.record.route = moment.request.record.cluster = moment.request.record.flags = ""
    early = attrs.evolve(moment, response=None)
    absent = {name for name, variable in VARIABLES.items() if variable.read(early) is None}
    assert absent == {
        *("method", "path", "host", "service", "target", "peer_identity", "request_id", "route"),
        *("alpn", "tls_version", "tls_cipher"),
        *("rpc_service", "rpc_method"),
        *("cluster", "response_code", "status", "response_flags", "detail", "endpoint"),
    }


def test_what_depends_on_the_head_only_says_so(moment: Moment) -> None:
    before = {name: v.read(moment) for name, v in VARIABLES.items() if v.head_only}
    moment.request.connection.peer = moment.request.connection.local
    moment.request.connection.protocol = moment.request.record.route = "other"
    after = {name: v.read(moment) for name, v in VARIABLES.items() if v.head_only}
    assert before == after
    assert set(before) == {
        *("method", "path", "host", "service", "target", "rpc_service", "rpc_method"),
    }


def test_a_call_within_a_web_request_has_a_name_of_its_own(moment: Moment) -> None:
    head = moment.request.head
    target = attrs.evolve(head.extra, rpc=Rpc("grpc", "lab.Echo", "Say"))
    moment.request.head = attrs.evolve(head, extra=target)
    names = ("rpc_service", "rpc_method", "dialect", "service", "method", "protocol")
    found = [VARIABLES[name].read(moment) for name in names]
    assert found == ["lab.Echo", "Say", "grpc", "reviews:9080", "GET", "http1"]
    moment.request.head = RequestHead(service="s", method="m")
    assert [VARIABLES[name].read(moment) for name in names[:3]] == ["s", "m", "http1"]


def test_the_outcome_that_trailers_told_is_the_status(moment: Moment) -> None:
    moment.request.record.outcome = Status.DATA_LOSS
    assert VARIABLES["status"].read(moment) == "data-loss"
    assert VARIABLES["status"].read(attrs.evolve(moment, response=None)) == "data-loss"


def test_envoys_names_lead_to_ours() -> None:
    assert set(ENVOY_NAMES.values()) <= set(VARIABLES)
    assert not set(ENVOY_NAMES) & set(VARIABLES)


def test_the_id_that_was_given_comes_before_the_header(moment: Moment) -> None:
    moment.request.metadata[REQUEST_ID] = "given"
    assert VARIABLES["request_id"].read(moment) == "given"


@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        ("req", "X-Request-ID", "abc"),
        ("req", "gone", None),
        ("req", "gone?x-request-id", "abc"),
        ("req", ":METHOD", "GET"),
        ("req", ":path", "/a?b=c"),
        ("req", "gone?:authority", "reviews:9080"),
        ("req", ":scheme", "https"),
        ("resp", "Server", "x"),
        ("resp", "gone?server", "x"),
        ("resp", "gone", None),
    ],
)
def test_headers(moment: Moment, kind: str, argument: str, value: str | None) -> None:
    variable = header_variable(kind, argument)
    assert variable.read(moment) == value
    assert variable.head_only is (kind == "req")
    assert variable.phase is (Phase.REQUEST if kind == "req" else Phase.RESPONSE)


@attrs.frozen
class Known(Described):
    arguments: dict[str, str]


def test_an_argument(moment: Moment) -> None:
    variable = header_variable("arg", "gone?user.id")
    assert variable.read(moment) is None
    assert variable.phase is Phase.REQUEST
    moment.request.head = attrs.evolve(moment.request.head, extra=Known({"user.id": "7"}))
    assert variable.read(moment) == "7"


def test_a_response_header_before_there_is_a_response(moment: Moment) -> None:
    early = attrs.evolve(moment, response=None)
    assert header_variable("resp", "server").read(early) is None


@pytest.mark.parametrize("argument", ["", "a?", "a?b?c", ":status"])
def test_a_wrong_argument_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r"needs the name|is none of"):
        header_variable("req", argument)


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"


async def test_this_moment(moment: Moment) -> None:
    found = moment_of(moment.request, None, 5.0)
    assert found.now == pytest.approx(trio.current_time(), abs=5)
    assert (found.wall, found.response) == (5.0, None)
