"""Messages of a fixed head with lengths, then headers, then a body: a declaration, and the wire made from it.

The author's part is data and two small functions. Whatever these raise on hostile bytes is ``Malformed``, and on
heads of ours that the protocol cannot say ``LocalProtocolError``: nothing else comes out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Mapping
from functools import lru_cache
from math import ceil
from typing import Any, Final, Literal, TypeAlias

import attrs

from xproxy.codecs.api import NO, NOT_AN_OPTION, YES, Verdict
from xproxy.codecs.message_wire import (
    NO_HEAD,
    ONEWAY,
    REQUEST,
    RESPONSE,
    WIDE_IDS,
    Kind,
    Malformed,
    MalformedMessage,
    Message,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead, recurring
from xproxy.model.status import Status

Pairs: TypeAlias = Iterable[tuple[str, str]]

KNOWN_FIELDS: Final = (
    "magic",
    "kind",
    "status",
    "id",
    "timeout",
    "headers",
    "body",
    "rest",
    "total",
)
"""What the skeleton understands; fields of any other name are the protocol's own."""

FOREIGN_FAILURES: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What an author's function may raise on hostile bytes (UnicodeDecodeError is a ValueError)."""

_OWN_BYTES: Final = 7
_UNLIMITED: Final = Limits(max_head_bytes=1 << 62, max_message_bytes=1 << 62)
"""For detection: what is too long is this protocol's all the same, and refused in its own words."""
_MEMO_BYTES: Final = 2048

_FOLDS: Final[Mapping[Status, Status]] = {
    Status.UNIMPLEMENTED: Status.NOT_FOUND,
    Status.NOT_FOUND: Status.UNAVAILABLE,
    Status.UNAUTHENTICATED: Status.PERMISSION_DENIED,
    Status.PERMISSION_DENIED: Status.INVALID_ARGUMENT,
    Status.ALREADY_EXISTS: Status.FAILED_PRECONDITION,
    Status.FAILED_PRECONDITION: Status.INVALID_ARGUMENT,
    Status.OUT_OF_RANGE: Status.INVALID_ARGUMENT,
    Status.INVALID_ARGUMENT: Status.INTERNAL,
    Status.UNAVAILABLE: Status.INTERNAL,
    Status.DEADLINE_EXCEEDED: Status.UNAVAILABLE,
    Status.RESOURCE_EXHAUSTED: Status.UNAVAILABLE,
    Status.CANCELLED: Status.INTERNAL,
    Status.ABORTED: Status.INTERNAL,
    Status.DATA_LOSS: Status.INTERNAL,
}
"""What a protocol that cannot tell one status says instead."""


@attrs.frozen
class FramedExtra:
    """What a head of a declared protocol holds beyond the neutral one."""

    own: tuple[object, ...]
    """Values of the protocol's own fields, in their order on the wire."""
    timeout: int
    """Milliseconds as sent."""
    block: bytes
    """The header block as sent."""
    service: str
    method: str
    headers: Headers = attrs.field(repr=False)
    """What it says."""


def _no_headers(block: bytes) -> Pairs:
    return ()


def _no_block(pairs: Pairs) -> bytes:
    return b""


def facts(
    _: type,
    fields: list[attrs.Attribute[Any]],  # Any: fields have any type
) -> list[attrs.Attribute[Any]]:  # Any: as above
    """Mark every field of a class as a fact of the protocol, not an option; see attrs' ``field_transformer``."""
    return [field.evolve(metadata={**field.metadata, **NOT_AN_OPTION}) for field in fields]


@attrs.frozen(kw_only=True, eq=False, field_transformer=facts)
class Declaration:
    """What a protocol's author says of it."""

    name: str
    """What configuration calls it."""
    head: Mapping[str, str]
    """The fixed head in wire order: field name → format (of ``struct``, without byte order).

    Known names: ``magic``; ``kind``; ``status`` (of responses; 0 in all else); ``id``; ``timeout`` (milliseconds; 0:
    none; optional); ``headers`` (length of the header block; optional); and one of ``body`` (length of the body),
    ``rest`` (of all that follows the fixed head), ``total`` (of the whole message). Any other field is the protocol's
    own: its value is kept when a message is passed on, and an answer copies its request's (7 bytes of them in all).
    """
    magic: bytes
    """The value of the field ``magic``, by which a connection is recognised."""
    kinds: Mapping[int, Kind]
    """The values of the field ``kind``. The protocol has what is in here, and only that."""
    statuses: Mapping[int, Status]
    """The values of the field ``status``. Of two with one meaning the first is sent; any other value is UNKNOWN."""
    read_headers: Callable[[bytes], Pairs] = _no_headers
    """Split a header block. May raise ValueError, LookupError, struct.error, …: the message is malformed then."""
    write_headers: Callable[[Pairs], bytes] = _no_block
    """Make a header block."""
    service: str = "service"
    """The header that is the request's service; it is not among ``RequestHead.headers``."""
    method: str = "method"
    """The header that is its method, likewise."""
    defaults: Mapping[str, int | bytes] = attrs.Factory(dict)
    """Own fields of messages made here; 0 where not named."""
    order: Literal[">", "<"] = ">"
    """Byte order: ``>`` big-endian."""
    rank: int = 50
    """Order of detection (``Traits.rank``)."""
    reverse: bool = False
    """Either side may call the other."""

    def meaning_of(self, code: int) -> Status:
        """Return the neutral status of a code. Total."""
        return self.statuses.get(code, Status.UNKNOWN)


def _check(declared: Declaration) -> None:
    """Raise ValueError for a declaration that cannot work."""
    head, kinds = declared.head, list(declared.kinds.values())
    wrong = [
        f"head has no {name!r}" for name in ("magic", "kind", "status", "id") if name not in head
    ]
    if sum(name in head for name in ("body", "rest", "total")) != 1:
        wrong.append("head needs one of 'body', 'rest' and 'total'")
    if head.get("magic") != f"{len(declared.magic)}s" or not declared.magic:
        wrong.append(f"magic is {len(declared.magic)} bytes, its field {head.get('magic')!r}")
    wrong += [f"kinds have no {kind.name}" for kind in (REQUEST, RESPONSE) if kind not in kinds]
    if Kind.REFUSED in kinds:
        wrong.append("no message of the wire is refused by its kind")
    wrong += halves(kinds, declared.statuses)
    if wrong:
        raise ValueError(f"{declared.name}: {'; '.join(wrong)}")


def halves(kinds: Container[Kind], statuses: Mapping[int, Status]) -> list[str]:
    """Say what kinds and statuses of a declaration lack to be of use."""
    wrong = []
    if (Kind.HEARTBEAT in kinds) != (Kind.HEARTBEAT_ACK in kinds):
        wrong.append("kinds have a heartbeat without its acknowledgement, or the reverse")
    meanings = set(statuses.values())
    if Status.OK not in meanings or len(meanings) < 2:
        wrong.append("statuses need OK and another one")
    return wrong


def inverse(statuses: Mapping[int, Status]) -> dict[Status, int]:
    """Return the code to send for every status: its own, or that of what it folds into."""
    first = {status: code for code, status in reversed(list(statuses.items()))}
    failures = [status for status in first if status is not Status.OK]
    vague = (Status.INTERNAL, Status.UNKNOWN, *failures)
    other = next(status for status in vague if status in first)
    codes: dict[Status, int] = {}
    for status in Status:
        found: Status | None = status
        while found is not None and found not in first:
            found = _FOLDS.get(found)
        codes[status] = first[found if found is not None else other]
    return codes


_TOLD: Final = frozenset({REQUEST, RESPONSE, ONEWAY})
"""Kinds of messages that can fail alone."""


def failing(kind: Kind, text: str, stream_id: int, dialect: int, length: int = 0) -> Malformed:
    """Return the error of a message that fails alone, where it is of such a kind."""
    return (
        MalformedMessage(text, kind, stream_id, dialect, length)
        if kind in _TOLD
        else Malformed(text)
    )


class FramedWire:
    """A declaration as a ``MessageWire``. Raises ValueError for one that cannot work."""

    def __init__(self, declared: Declaration) -> None:
        _check(declared)
        self.name: Final = declared.name
        self._declared = declared
        names = list(declared.head)
        self._names = names
        self._head = self._struct(names)
        self._at = {name: index for index, name in enumerate(names)}
        self._own = [name for name in names if name not in KNOWN_FIELDS]
        self._own_head = self._struct(self._own)
        if self._own_head.size > _OWN_BYTES:
            raise ValueError(
                f"{declared.name}: own fields of {self._own_head.size} bytes, limit {_OWN_BYTES}"
            )
        self._new = tuple(declared.defaults.get(name, 0) for name in self._own)
        self._new_dialect = int.from_bytes(self._own_head.pack(*self._new))
        self._magic_at = self._struct(names[: self._at["magic"]]).size
        self._id_at = self._struct(names[: self._at["id"]]).size
        self._id_size = self._struct(["id"]).size
        self._id_mask = (1 << 8 * self._id_size) - 1
        self._id_signed = declared.head["id"].islower()
        self.largest_id = min(self._id_mask >> self._id_signed, WIDE_IDS)
        self._kind_codes = {kind: code for code, kind in reversed(list(declared.kinds.items()))}
        self._codes = inverse(declared.statuses)
        self._remembered_request = lru_cache(maxsize=512)(
            lambda *facts: recurring(self._read_request(*facts))
        )
        self._remembered_response = lru_cache(maxsize=512)(
            lambda *facts: recurring(self._read_response(*facts))
        )

    def _struct(self, names: Iterable[str]) -> struct.Struct:
        # "=" and not "@": no padding between fields, whatever the machine.
        return struct.Struct(
            self._declared.order + "".join(self._declared.head[name] for name in names)
        )

    # ── reading ──

    def detect(self, prefix: bytes) -> Verdict:
        start, magic = self._magic_at, self._declared.magic
        seen = prefix[start : start + len(magic)]
        if not magic.startswith(seen):
            return NO
        size, fixed = len(prefix), self._head.size
        if size < fixed:
            return Verdict.more(max(size, start) + 1, faint=seen != magic)
        try:
            self.decode(prefix[:fixed], 0, fixed, _UNLIMITED)
        except Malformed:
            return NO
        # A connection does not begin with an answer.
        kind = self._declared.kinds[self._head.unpack_from(prefix)[self._at["kind"]]]
        return NO if kind in (RESPONSE, Kind.HEARTBEAT_ACK) else YES

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | int:
        """Read a message. Whatever goes wrong in the author's functions is Malformed."""
        declared, where = self._declared, self._at
        fixed = self._head.size
        start = at + fixed
        if start > size:
            begin = at + self._magic_at
            if not declared.magic.startswith(
                buffer[begin : min(begin + len(declared.magic), size)]
            ):
                raise Malformed("wrong magic number")
            return fixed
        values = self._head.unpack_from(buffer, at)
        if values[where["magic"]] != declared.magic:
            raise Malformed("wrong magic number")
        kind = declared.kinds.get(values[where["kind"]])
        if kind is None:
            raise Malformed(f"kind {values[where['kind']]}")
        block_length = values[where["headers"]] if "headers" in where else 0
        if "body" in where:
            length = fixed + block_length + values[where["body"]]
        elif "rest" in where:
            length = fixed + values[where["rest"]]
        else:
            length = values[where["total"]]
        own = tuple([values[where[name]] for name in self._own])
        dialect = int.from_bytes(self._own_head.pack(*own)) if own else 0
        wrong = ""
        certain = length
        if block_length < 0 or length < fixed + block_length:
            wrong = "the lengths contradict each other"
            certain = 0
        elif block_length > limits.max_head_bytes:
            wrong = f"headers of {block_length} bytes, limit {limits.max_head_bytes}"
        elif length > limits.max_message_bytes:
            wrong = f"message of {length} bytes, limit {limits.max_message_bytes}"
        stream_id = values[where["id"]]
        if wrong:
            raise failing(kind, wrong, stream_id, dialect, certain)
        if at + length > size:
            return int(length)
        body = start + block_length
        if kind not in (REQUEST, RESPONSE, ONEWAY):
            return kind, stream_id, NO_HEAD, b"", length, dialect
        block = buffer[start:body]
        try:
            head = self._head_of(kind, values, own, block)
        except Malformed as exc:
            raise failing(kind, str(exc), stream_id, dialect, length) from exc
        except FOREIGN_FAILURES as exc:
            text = f"header block cannot be read ({type(exc).__name__})"
            raise failing(kind, text, stream_id, dialect, length) from exc
        if len(head.headers) > limits.max_headers:
            text = f"more than {limits.max_headers} headers"
            raise failing(kind, text, stream_id, dialect, length)
        return kind, stream_id, head, buffer[body : at + length], length, dialect

    def _head_of(
        self, kind: Kind, values: tuple[int, ...], own: tuple[object, ...], block: bytes
    ) -> RequestHead | ResponseHead:
        short = len(block) <= _MEMO_BYTES
        if kind is RESPONSE:
            respond = self._remembered_response if short else self._read_response
            return respond(values[self._at["status"]], own, block)
        timeout = values[self._at["timeout"]] if "timeout" in self._at else 0
        request = self._remembered_request if short else self._read_request
        return request(kind is ONEWAY, timeout, own, block)

    def _read_request(
        self, oneway: bool, timeout: int, own: tuple[object, ...], block: bytes
    ) -> RequestHead:
        pairs = tuple(self._declared.read_headers(block))
        keys = (self._declared.service, self._declared.method)
        # The last one counts, as it does for a peer that fills a map.
        named = {key: value for key, value in pairs if key in keys}
        service, method = (named.get(key, "") for key in keys)
        headers = Headers(pair for pair in pairs if pair[0] not in keys)
        return RequestHead(
            service=service,
            method=method,
            headers=headers,
            deadline=timeout / 1000 if timeout > 0 else None,
            oneway=oneway,
            extra=FramedExtra(own, timeout, block, service, method, headers),
        )

    def _read_response(self, code: int, own: tuple[object, ...], block: bytes) -> ResponseHead:
        headers = Headers(self._declared.read_headers(block))
        return ResponseHead(
            status=self._declared.meaning_of(code),
            native_status=code,
            headers=headers,
            extra=FramedExtra(own, 0, block, "", "", headers),
        )

    # ── writing ──

    def patch(self, raw: bytes, stream_id: int, dialect: int | None) -> bytes:
        if dialect is not None and self._own and self._dialect_of(raw) != dialect:
            return b""
        at, size = self._id_at, self._id_size
        order: Literal["big", "little"] = "big" if self._declared.order == ">" else "little"
        return raw[:at] + (stream_id & self._id_mask).to_bytes(size, order) + raw[at + size :]

    def request(self, stream_id: int, head: RequestHead, data: bytes) -> bytes:
        kind = ONEWAY if head.oneway else REQUEST
        if kind not in self._kind_codes:
            raise LocalProtocolError(f"{self.name} has no oneway requests")
        extra = head.extra if isinstance(head.extra, FramedExtra) else None
        own = extra.own if extra is not None else self._new
        timeout = extra.timeout if extra is not None else 0
        if head.deadline != (timeout / 1000 if timeout > 0 else None):
            timeout = 0 if head.deadline is None else max(1, ceil(head.deadline * 1000))
        if (
            extra is not None
            and head.headers is extra.headers
            and (head.service, head.method) == (extra.service, extra.method)
        ):
            block = extra.block
        else:
            keys = (self._declared.service, self._declared.method)
            target = [
                pair for pair in zip(keys, (head.service, head.method), strict=True) if pair[1]
            ]
            # A header of a target's name would be a second, different target to the peer.
            block = self._block([*target, *(pair for pair in head.headers if pair[0] not in keys)])
        return self._write(kind, stream_id, own, block, data, timeout=timeout)

    def response(self, stream_id: int, head: ResponseHead, data: bytes, dialect: int) -> bytes:
        own = self._own_of(dialect)
        code, extra = head.native_status, head.extra
        # What was read goes on as it is, also where the declaration does not name it.
        declared = self._declared.statuses.get(code) if code is not None else None
        if declared is None and code is not None and isinstance(extra, FramedExtra):
            declared = self._declared.meaning_of(code)
        if code is None or declared is not head.status:
            code = self._codes[head.status]
        if isinstance(extra, FramedExtra) and head.headers is extra.headers:
            block = extra.block
        else:
            block = self._block(head.headers)
        return self._write(RESPONSE, stream_id, own, block, data, status=code)

    def acknowledge(self, raw: bytes) -> bytes:
        values = dict(zip(self._names, self._head.unpack_from(raw), strict=True))
        own = [values[name] for name in self._own]
        return self._write(Kind.HEARTBEAT_ACK, values["id"], own, b"", b"")

    def heartbeat(self, dialect: int) -> bytes:
        return self._write(Kind.HEARTBEAT, 0, self._last_heard(dialect), b"", b"")

    def goaway(self, dialect: int) -> bytes:
        return self._write(Kind.GOAWAY, 0, self._last_heard(dialect), b"", b"")

    def _last_heard(self, dialect: int) -> tuple[object, ...]:
        return self._own_of(dialect) if dialect else self._new

    def _own_of(self, dialect: int) -> tuple[object, ...]:
        return self._own_head.unpack(dialect.to_bytes(8)[8 - self._own_head.size :])

    def _dialect_of(self, raw: bytes) -> int:
        values = self._head.unpack_from(raw)
        return int.from_bytes(self._own_head.pack(*(values[self._at[n]] for n in self._own)))

    def _block(self, pairs: Pairs) -> bytes:
        try:
            return self._declared.write_headers(pairs)
        except FOREIGN_FAILURES as exc:
            raise LocalProtocolError(f"{self.name} cannot write these headers: {exc}") from exc

    def _write(
        self,
        kind: Kind,
        stream_id: int,
        own: Iterable[object],
        block: bytes,
        data: bytes,
        *,
        timeout: int = 0,
        status: int = 0,
    ) -> bytes:
        wrapped = stream_id & self._id_mask
        if self._id_signed and wrapped > self._id_mask >> 1:
            wrapped -= self._id_mask + 1
        rest = len(block) + len(data)
        values: dict[str, object] = {
            "magic": self._declared.magic,
            "kind": self._kind_codes[kind],
            "status": status,
            "id": wrapped,
            "timeout": timeout,
            "headers": len(block),
            "body": len(data),
            "rest": rest,
            "total": self._head.size + rest,
            **dict(zip(self._own, own, strict=True)),
        }
        try:
            fixed = self._head.pack(*(values[name] for name in self._names))
        except struct.error as exc:
            raise LocalProtocolError(f"{self.name} cannot write this head: {exc}") from exc
        return fixed + block + data
