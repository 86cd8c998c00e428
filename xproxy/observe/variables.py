"""Variables: what can be told about a request, by name, in access logs and in headers.

Names are written between percent signs, in any case: ``%path%``, ``%PATH%``. Envoy's operators are known under
their own names, so its format strings can be used as they are (but for ``%START_TIME(format)%``).
"""

from __future__ import annotations

import datetime
import enum
import functools
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.metadata import Key
from xproxy.stream.exchange import Request

Value: TypeAlias = str | int | float | None
"""None: there is no such thing in this request; a text shows ``-`` for it."""

REQUEST_ID: Final[Key[str]] = Key("xproxy.request_id")
"""The id that the request_id filter gave or found."""


class Phase(enum.IntEnum):
    """When a variable has its value."""

    REQUEST = 0
    """Before the request goes on."""
    RESPONSE = 1
    """When the response head is there."""
    END = 2
    """When the exchange is over."""


@attrs.frozen
class Moment:
    """A request at one moment, to read variables from."""

    request: Request
    response: ResponseHead | None
    """None while there is none."""
    now: float
    """Seconds, trio clock."""
    wall: float
    """The same moment in seconds since 1970."""


Read: TypeAlias = Callable[[Moment], Value]


@attrs.frozen
class Variable:
    """One thing that can be told about a request."""

    read: Read
    phase: Phase = Phase.REQUEST
    """From when on it has its value."""
    head_only: bool = False
    """It depends on nothing but the request head, so it is the same for the same head."""
    shows: str = ""
    """What it is, for the reference; empty for one with an argument."""


@functools.lru_cache(maxsize=8)
def _second(second: int) -> str:
    # Formatting costs 2 µs, and the requests of one second share it.
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(wall: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, e.g. ``2026-02-03T04:05:06.789Z``."""
    milliseconds = int(wall * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


def _start_time(moment: Moment) -> str:
    return timestamp(moment.wall - (moment.now - moment.request.started))


def _duration(moment: Moment) -> float:
    return round((moment.now - moment.request.started) * 1000, 3)


def _target(moment: Moment) -> Value:
    head = moment.request.head
    return head.service + head.path or None


def _code(moment: Moment) -> Value:
    response = moment.response
    if response is None:
        return None
    code_of = moment.request.connection.code_of
    if response.native_status is None and code_of is not None:
        return code_of(response, moment.request.head)  # what the client's codec is about to say
    return response.native_status


def _status(moment: Moment) -> Value:
    outcome = moment.request.record.outcome
    if outcome is None and moment.response is not None:
        outcome = moment.response.status
    return outcome.label if outcome is not None else None


def _rpc_service(moment: Moment) -> Value:
    head = moment.request.head
    if head.rpc is not None:
        return head.rpc.service
    return head.service if not isinstance(head.extra, Target) and head.service else None


def _rpc_method(moment: Moment) -> Value:
    head = moment.request.head
    if head.rpc is not None:
        return head.rpc.method
    return head.method if not isinstance(head.extra, Target) and head.method else None


def _dialect(moment: Moment) -> Value:
    rpc = moment.request.head.rpc
    return moment.request.connection.protocol if rpc is None else rpc.dialect


def _endpoint(moment: Moment) -> Value:
    endpoint = moment.request.record.endpoint
    return None if endpoint is None else str(endpoint)


def _request_id(moment: Moment) -> Value:
    request = moment.request
    return request.metadata.get(REQUEST_ID) or request.head.headers.get("x-request-id")


VARIABLES: Final[Mapping[str, Variable]] = {
    "start_time": Variable(
        _start_time, shows="when the request began: RFC 3339, UTC, milliseconds"
    ),
    "method": Variable(
        lambda r: r.request.head.method or None,
        head_only=True,
        shows="the method, of a web request or an RPC",
    ),
    "path": Variable(
        lambda r: r.request.head.path or None,
        head_only=True,
        shows="the path of a web request, with its query",
    ),
    "host": Variable(
        lambda r: r.request.head.service or None, head_only=True, shows="the same as `service`"
    ),
    "service": Variable(
        lambda r: r.request.head.service or None,
        head_only=True,
        shows="the authority of a web request, or the service of an RPC",
    ),
    "rpc_service": Variable(
        _rpc_service, head_only=True, shows="the service that is called, also by a web request"
    ),
    "rpc_method": Variable(
        _rpc_method, head_only=True, shows="the method that is called, likewise"
    ),
    "dialect": Variable(
        _dialect, shows="the convention of a call within a web request, else the protocol"
    ),
    "target": Variable(_target, head_only=True, shows="`service` and path together"),
    "protocol": Variable(
        lambda r: r.request.connection.protocol, shows="the codec that recognised the connection"
    ),
    "listener": Variable(lambda r: r.request.connection.listener, shows="its name"),
    "peer_address": Variable(
        lambda r: str(r.request.connection.peer), shows="the client, as `address:port`"
    ),
    "peer_ip": Variable(
        lambda r: r.request.connection.peer.host or None, shows="the client's address alone"
    ),
    "local_address": Variable(
        lambda r: str(r.request.connection.local), shows="the address that the client called"
    ),
    "peer_identity": Variable(
        lambda r: r.request.connection.peer_identity,
        shows="the client's name, by its verified certificate",
    ),
    "sni": Variable(
        lambda r: r.request.connection.sni, shows="the server name that the client asked for"
    ),
    "alpn": Variable(
        lambda r: r.request.connection.alpn, shows="the application protocol agreed on in TLS"
    ),
    "tls_version": Variable(lambda r: r.request.connection.tls_version, shows="e.g. `TLSv1.3`"),
    "tls_cipher": Variable(lambda r: r.request.connection.tls_cipher, shows="the cipher suite"),
    "connection_id": Variable(
        lambda r: r.request.connection.id,
        shows="a number that no other connection of this process has",
    ),
    "request_id": Variable(
        _request_id,
        shows="what the filter `request_id` gave or found, else the header `x-request-id`",
    ),
    "route": Variable(
        lambda r: r.request.record.route or None,
        shows="the name of the route, or `<table>[<index>]`",
    ),
    "cluster": Variable(lambda r: r.request.record.cluster or None, shows="where the route leads"),
    "response_code": Variable(_code, Phase.RESPONSE, shows="the protocol's own code"),
    "status": Variable(
        _status,
        Phase.RESPONSE,
        shows="the neutral status; at the end that of the trailers, where they say one",
    ),
    "response_flags": Variable(
        lambda r: r.request.record.flags or None,
        Phase.RESPONSE,
        shows="what went wrong, by Envoy's names",
    ),
    "detail": Variable(
        lambda r: r.request.record.detail or None, Phase.RESPONSE, shows="why, in words"
    ),
    "endpoint": Variable(_endpoint, Phase.RESPONSE, shows="who answered, as `address:port`"),
    "attempts": Variable(
        lambda r: len(r.request.record.attempts),
        Phase.RESPONSE,
        shows="how often it was sent upstream",
    ),
    "duration": Variable(_duration, Phase.RESPONSE, shows="milliseconds since the request began"),
    "bytes_received": Variable(
        lambda r: r.request.record.received_bytes, Phase.RESPONSE, shows="of the request's body"
    ),
    "bytes_sent": Variable(
        lambda r: r.request.record.sent_bytes, Phase.END, shows="of the response's body"
    ),
}
"""By name, in lower case. ``route`` and ``cluster`` are empty before the router has chosen."""

ENVOY_NAMES: Final[Mapping[str, str]] = {
    "upstream_host": "endpoint",
    "upstream_cluster": "cluster",
    "route_name": "route",
    "downstream_remote_address": "peer_address",
    "downstream_remote_address_without_port": "peer_ip",
    "downstream_local_address": "local_address",
    "downstream_peer_uri_san": "peer_identity",
    "requested_server_name": "sni",
    "downstream_tls_version": "tls_version",
    "downstream_tls_cipher": "tls_cipher",
    "response_code_details": "detail",
    "upstream_request_attempt_count": "attempts",
}
"""Envoy's names where they are not our own in capitals."""

HEADER_VARIABLES: Final[Mapping[str, Phase]] = {
    "req": Phase.REQUEST,
    "resp": Phase.RESPONSE,
    "arg": Phase.REQUEST,
}
"""Variables with an argument: ``%REQ(name)%``, ``%RESP(name)%``; ``%REQ(a?b)%`` is ``b`` where ``a`` is absent.
``%ARG(name)%`` is an argument of the call, where the codec knows what they are called."""

_PSEUDO: Final[Mapping[str, Callable[[RequestHead], Value]]] = {
    ":method": lambda head: head.method or None,
    ":path": lambda head: head.path or None,
    ":authority": lambda head: head.service or None,
    ":scheme": lambda head: head.extra.scheme if isinstance(head.extra, Target) else None,
}


def header_variable(kind: str, argument: str) -> Variable:
    """Return ``%REQ(argument)%``, ``%RESP(argument)%`` or ``%ARG(argument)%``. Raises ValueError for a wrong one."""
    names = [name.strip() for name in argument.split("?")]
    if len(names) > 2 or not all(names):
        raise ValueError(f"%{kind}({argument})% needs the name of a header")
    if kind != "resp":
        make = _request_finder if kind == "req" else _argument_finder
        finders = [make(name) for name in names]
        return Variable(lambda r: _first(finders, r.request.head), head_only=True)
    return Variable(lambda r: _response_header(r.response, names), Phase.RESPONSE)


def _request_finder(name: str) -> Callable[[RequestHead], Value]:
    if name.startswith(":"):
        found = _PSEUDO.get(name.lower())
        if found is None:
            raise ValueError(f"{name!r} is none of {', '.join(_PSEUDO)}")
        return found
    return lambda head: head.sent(name)


def _argument_finder(name: str) -> Callable[[RequestHead], Value]:
    def find(head: RequestHead) -> Value:
        arguments = head.arguments
        return arguments.get(name) if arguments is not None else None

    return find


def _first(finders: list[Callable[[RequestHead], Value]], head: RequestHead) -> Value:
    for find in finders:
        if (value := find(head)) is not None:
            return value
    return None


def _response_header(response: ResponseHead | None, names: list[str]) -> Value:
    headers: Headers | None = response.headers if response is not None else None
    for name in names:
        if headers is not None and (value := headers.get(name)) is not None:
            return value
    return None


def moment_of(request: Request, response: ResponseHead | None, wall: float) -> Moment:
    """Return this moment of a request. To be called in a Trio task."""
    return Moment(request, response, trio.current_time(), wall)
