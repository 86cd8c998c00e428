"""A whole codec plugin from a layout: for message protocols whose head is not one fixed struct.

Sizes may stand anywhere and count anything, be varints, and there may be several parts; kind, id, service and method
may lie in any of them, and an id may be a text. The author declares the layout and writes two functions between its
values and ``Said``. What these raise on hostile bytes is a ``Violation``; limits, ids, refusals and snapshots are as
in ``length_framed``, which is for what fits into a fixed head and is faster.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import ceil
from typing import Final, TypeAlias

import attrs

from xproxy.codecs.api import NO, YES, Codec, Hint, Samples, Verdict
from xproxy.codecs.framed_wire import FOREIGN_FAILURES, facts, failing, halves, inverse
from xproxy.codecs.layout import Layout, Values
from xproxy.codecs.message_state import VERSIONS
from xproxy.codecs.message_wire import (
    NO_HEAD,
    ONEWAY,
    REQUEST,
    RESPONSE,
    WIDE_IDS,
    Kind,
    Malformed,
    Message,
)
from xproxy.codecs.messages import (
    FullMessageCodec,
    GoAwayMessageCodec,
    HeartbeatMessageCodec,
    MessageCodec,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

_NUMBERS: Final = 1 << 63
"""Stream ids from here on stand for texts that are no numbers."""
_ECHO_BYTES: Final = 7
MAX_ID_BYTES: Final = 1024
"""Of an id that is a text: each request in flight holds it."""
_SAMPLE: Final = RequestHead(service="xproxy.Echo", method="say")


@attrs.frozen(kw_only=True)
class Said:
    """What a message says, whatever its layout."""

    kind: Kind
    id: int | str = 0
    service: str = ""
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 0
    """Of responses: the protocol's own code."""
    timeout: int = 0
    """Milliseconds; 0: none."""
    body: bytes = b""

    @property
    def is_of_its_types(self) -> bool:
        """Whether hostile bytes did not make something else of it, as where a number stands in place of a text."""
        texts = (self.service, self.method, *(word for pair in self.headers for word in pair))
        return (
            isinstance(self.id, int | str)
            and isinstance(self.status, int)
            and isinstance(self.timeout, int)
            and isinstance(self.body, bytes)
            and all(isinstance(text, str) for text in texts)
        )


Read: TypeAlias = Callable[[Values], Said]
Write: TypeAlias = Callable[[Said, Values], Values]


@attrs.frozen
class LaidOutExtra:
    """What was read: the layout's values without the body's copy, and the head's own headers."""

    values: Values
    headers: Headers = attrs.field(repr=False)
    timeout: int = 0


def number_of(id_: int | str) -> int:
    """Return the stream id of a message's id: one for each, and for a number, also as text, the number."""
    if isinstance(id_, int):
        return id_
    if id_.isascii() and id_.isdigit() and (id_ == "0" or id_[0] != "0") and len(id_) < 19:
        return int(id_)
    raw = id_.encode()
    if len(raw) > MAX_ID_BYTES:
        raise ValueError(f"an id of {len(raw)} bytes, limit {MAX_ID_BYTES}")
    return _NUMBERS + int.from_bytes(b"\1" + raw)


def text_of(number: int) -> str:
    """Return the text that ``number_of`` was given. Raises LocalProtocolError for a number that none was made of."""
    if 0 <= number < _NUMBERS:
        return str(number)
    raw = max(number - _NUMBERS, 0)
    packed = raw.to_bytes((raw.bit_length() + 7) // 8)
    try:
        if packed[:1] == b"\1":
            return packed[1:].decode()
    except UnicodeDecodeError:
        pass
    raise LocalProtocolError(f"stream id {number} stands for no text")


@attrs.frozen(kw_only=True, eq=False, field_transformer=facts)
class LaidOut:
    """A codec plugin out of a layout. Raises ValueError for one that cannot work."""

    name: str
    """What configuration calls it."""
    layout: Mapping[str, str]
    """The fields of a message in wire order, by name; see ``xproxy.codecs.layout`` for their formats."""
    read: Read
    """Say what the values of a layout mean. May raise ValueError, LookupError, struct.error: malformed then."""
    write: Write
    """Return the values that say it, all but sizes. The second argument is what is known already: the values of a
    message that is passed on; for an answer made here those of its request named in ``echo``; else nothing."""
    statuses: Mapping[int, Status]
    """The protocol's own codes. Of two with one meaning the first is sent; any other value is UNKNOWN."""
    magic: bytes = b""
    """The value of the field ``magic``, by which a connection is recognised; or else ``recognise``."""
    recognise: Callable[[bytes], Verdict] | None = None
    """Look at a connection's first bytes; see ``CodecPlugin.detect``."""
    kinds: frozenset[Kind] = frozenset({REQUEST, RESPONSE})
    """What messages there are."""
    echo: tuple[str, ...] = ()
    """Numbers of the layout that an answer copies from its request: 7 bytes of them."""
    text_ids: bool = False
    """Ids are texts."""
    id_bits: int = 32
    """Width of ids that are numbers; of signed ones without the sign. Ids of our requests wrap within it."""
    sample: RequestHead = _SAMPLE
    """A request that this protocol carries, for the kit and the fuzzer."""
    order: str = ">"
    """Byte order: ``>`` big-endian, ``<`` little-endian."""
    rank: int = 50
    reverse: bool = False
    """Either side may call the other."""
    traits: Traits = attrs.field(init=False)
    examples: tuple[bytes, ...] = attrs.field(init=False)
    _wire: _Wire = attrs.field(init=False, repr=False)

    @traits.default
    def _default_traits(self) -> Traits:
        oneway = ONEWAY in self.kinds
        return Traits(sharing=Sharing.MESSAGES, oneway=oneway, reverse=self.reverse, rank=self.rank)

    @examples.default
    def _default_examples(self) -> tuple[bytes, ...]:
        return (_Wire(self).request(1, self.sample, b""),)

    @_wire.default
    def _default_wire(self) -> _Wire:
        return _Wire(self)

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return self._wire.detect(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        beats, leaves = Kind.HEARTBEAT in self.kinds, Kind.GOAWAY in self.kinds
        codec = (
            (FullMessageCodec if beats else GoAwayMessageCodec)
            if leaves
            else (HeartbeatMessageCodec if beats else MessageCodec)
        )
        return codec(self._wire, role, limits, reverse=self.reverse)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        codec = self.open(role, limits)
        assert isinstance(codec, MessageCodec)
        codec.load(state)
        return codec

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return VERSIONS

    def status_of(self, native_status: int) -> Status:
        return self.statuses.get(native_status, Status.UNKNOWN)

    def samples(self) -> Samples:
        """See SupportsSamples."""
        return Samples(requests=(self.sample,))


class _Wire:
    """A layout as a ``MessageWire``."""

    def __init__(self, declared: LaidOut) -> None:
        self.name: Final = declared.name
        self._declared = declared
        narrow = not declared.text_ids and declared.id_bits < 31
        self.largest_id = (1 << declared.id_bits) - 1 if narrow else WIDE_IDS
        self._layout = Layout(declared.layout, declared.order)
        formats = [declared.layout[name] for name in declared.echo]
        self._echo = struct.Struct(">" + "".join(formats))
        wrong = []
        if bool(declared.magic) == (declared.recognise is not None):
            wrong.append("needs one of magic and recognise")
        if declared.magic and self._layout.fixed_at("magic") is None:
            wrong.append("magic is behind something of no fixed length")
        if self._echo.size > _ECHO_BYTES:
            wrong.append(f"echoes {self._echo.size} bytes, limit {_ECHO_BYTES}")
        if not {REQUEST, RESPONSE} <= declared.kinds:
            wrong.append("kinds lack requests or responses")
        wrong += halves(declared.kinds, declared.statuses)
        if wrong:
            raise ValueError(f"{declared.name}: {'; '.join(wrong)}")
        self._codes = inverse(declared.statuses)

    def detect(self, prefix: bytes) -> Verdict:
        declared = self._declared
        if declared.recognise is not None:
            return declared.recognise(prefix) if prefix else Verdict.more(1)
        start = self._layout.fixed_at("magic") or 0
        seen = prefix[start : start + len(declared.magic)]
        if not declared.magic.startswith(seen):
            return NO
        return (
            YES if seen == declared.magic else Verdict.more(max(len(prefix), start + len(seen)) + 1)
        )

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | int:
        declared = self._declared
        # What ``recognise`` knows is how clients begin, and answers are read here, too.
        if declared.magic and self.detect(buffer[at : min(size, at + 64)]) is NO:
            raise Malformed("wrong magic number")
        found = self._layout.read(buffer, at, size, limits.max_message_bytes)
        if isinstance(found, int):
            return found
        values, length = found
        try:
            said = declared.read(values)
            number = number_of(said.id)
            echoed = int.from_bytes(self._echo.pack(*(values[name] for name in declared.echo)))
            headers = Headers(said.headers)
            if not said.is_of_its_types:
                raise TypeError("another type than was declared")
        except FOREIGN_FAILURES as exc:
            raise Malformed(f"a message cannot be read ({type(exc).__name__})") from exc
        if said.kind not in declared.kinds:
            raise Malformed(f"a {said.kind.value}")
        head_bytes = length - len(said.body)
        if head_bytes > limits.max_head_bytes:
            text = f"a head of {head_bytes} bytes, limit {limits.max_head_bytes}"
            raise failing(said.kind, text, number, echoed, length)
        if len(headers) > limits.max_headers:
            text = f"more than {limits.max_headers} headers"
            raise failing(said.kind, text, number, echoed, length)
        if said.kind not in (REQUEST, RESPONSE, ONEWAY):
            return said.kind, number, NO_HEAD, b"", length, echoed
        extra = LaidOutExtra(values, headers, said.timeout)
        head: RequestHead | ResponseHead
        if said.kind is RESPONSE:
            head = ResponseHead(
                status=declared.status_of(said.status),
                native_status=said.status,
                headers=headers,
                extra=extra,
            )
        else:
            head = RequestHead(
                service=said.service,
                method=said.method,
                headers=headers,
                deadline=said.timeout / 1000 if said.timeout > 0 else None,
                oneway=said.kind is ONEWAY,
                extra=extra,
            )
        return said.kind, number, head, said.body, length, echoed

    def patch(self, raw: bytes, stream_id: int, dialect: int | None) -> bytes:
        return b""  # an id may be anywhere: the message is written anew

    def request(self, stream_id: int, head: RequestHead, data: bytes) -> bytes:
        extra = head.extra if isinstance(head.extra, LaidOutExtra) else None
        timeout = extra.timeout if extra is not None else 0
        if head.deadline != (timeout / 1000 if timeout > 0 else None):
            timeout = 0 if head.deadline is None else max(1, ceil(head.deadline * 1000))
        said = Said(
            kind=ONEWAY if head.oneway else REQUEST,
            id=self._id(stream_id),
            service=head.service,
            method=head.method,
            headers=tuple(head.headers),
            timeout=timeout,
            body=data,
        )
        return self._write(said, extra.values if extra is not None else {})

    def response(self, stream_id: int, head: ResponseHead, data: bytes, dialect: int) -> bytes:
        code, extra = head.native_status, head.extra
        declared = self._declared
        known: Values = self._echoed(dialect)
        if isinstance(extra, LaidOutExtra):
            known = {**extra.values, **known}
        read = code is not None and isinstance(extra, LaidOutExtra)
        meaning = declared.statuses.get(code) if code is not None else None
        if read and meaning is None and code is not None:
            meaning = declared.status_of(code)
        if code is None or meaning is not head.status:
            code = self._codes[head.status]
        said = Said(
            kind=RESPONSE,
            id=self._id(stream_id),
            headers=tuple(head.headers),
            status=code,
            body=data,
        )
        return self._write(said, known)

    def acknowledge(self, raw: bytes) -> bytes:
        found = self._layout.read(raw, 0, len(raw), len(raw))
        assert not isinstance(found, int)
        said = self._declared.read(found[0])
        return self._write(Said(kind=Kind.HEARTBEAT_ACK, id=said.id), found[0])

    def heartbeat(self, dialect: int) -> bytes:
        return self._write(Said(kind=Kind.HEARTBEAT, id=self._id(0)), self._echoed(dialect))

    def goaway(self, dialect: int) -> bytes:
        return self._write(Said(kind=Kind.GOAWAY, id=self._id(0)), self._echoed(dialect))

    def _id(self, number: int) -> int | str:
        declared = self._declared
        return text_of(number) if declared.text_ids else number & (1 << declared.id_bits) - 1

    def _echoed(self, dialect: int) -> Values:
        values = self._echo.unpack(dialect.to_bytes(8)[8 - self._echo.size :])
        return dict(zip(self._declared.echo, values, strict=True))

    def _write(self, said: Said, known: Values) -> bytes:
        if said.kind not in self._declared.kinds:
            raise LocalProtocolError(f"{self.name} has no {said.kind.value} messages")
        try:
            values = self._declared.write(said, known)
            if self._declared.magic:
                values = {**values, "magic": self._declared.magic}
            return self._layout.write(values)
        except FOREIGN_FAILURES as exc:
            raise LocalProtocolError(f"{self.name} cannot say this: {exc}") from exc
