"""Bolt, Dubbo and Thrift: whole messages with an id, written as their specifications say and not by any code of ours.

What answers is ``rpcload serve``: with the id, success, and a text that begins with the nonce of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import attrs

from bench.takeover.speakers.rpcload import pattern
from bench.takeover.speakers.speaker import Answer, Broken, content, judged, nonce

SERVICE = b"com.example.lab.EchoService"
_SIZES = (256, 64, 700, 16)
"""Bytes of the text in a request, in turn."""
_LARGEST_BYTES = 1 << 20
Named = Literal["bolt", "dubbo", "thrift"]


@attrs.frozen
class Got:
    """A message that came."""

    message_id: int
    failed: str
    text: bytes


def _long(text: bytes) -> bytes:
    return len(text).to_bytes(4) + text


def _hessian(text: bytes) -> bytes:
    """Return a string (Hessian 2.0 §4.10): all of ours are ASCII."""
    size = len(text)
    if size < 32:
        return bytes([size]) + text
    if size < 1024:
        return bytes([0x30 + (size >> 8), size & 0xFF]) + text
    return b"S" + size.to_bytes(2) + text


def _unhessian(data: bytes) -> bytes:
    first = data[0]
    if first < 32:
        return data[1 : 1 + first]
    if 0x30 <= first < 0x34:
        return data[2 : 2 + ((first - 0x30) << 8 | data[1])]
    if first == ord("S"):
        return data[3 : 3 + int.from_bytes(data[1:3])]
    raise Broken(f"no Hessian string: {data[:16]!r}")


def _bolt(message_id: int, text: bytes) -> bytes:
    name = b"com.alipay.sofa.rpc.core.request.SofaRequest"
    service = SERVICE + b":1.0"
    fields = b"".join(
        _long(key) + _long(value)
        for key, value in (
            (b"service", service),
            (b"sofa_head_target_service", service),
            (b"sofa_head_method_name", b"echo"),
        )
    )
    body = _hessian(text)
    sizes = len(name).to_bytes(2) + len(fields).to_bytes(2) + len(body).to_bytes(4)
    head = b"\x01\x01\x00\x01\x01" + message_id.to_bytes(4) + b"\x01" + (120_000).to_bytes(4)
    return head + sizes + name + fields + body


def _bolt_size(got: bytes) -> int:
    if got[0] != 1:
        raise Broken(f"not Bolt: {got[:16]!r}")
    if len(got) < 20:
        return 0
    sizes = int.from_bytes(got[12:14]) + int.from_bytes(got[14:16]) + int.from_bytes(got[16:20])
    return 20 + sizes


def _unbolt(frame: bytes) -> Got:
    message_id, status = int.from_bytes(frame[5:9]), int.from_bytes(frame[10:12])
    if frame[1] != 0:
        raise Broken("a request came")
    if status:
        return Got(message_id, f"status {status}", b"")
    body = 20 + int.from_bytes(frame[12:14]) + int.from_bytes(frame[14:16])
    return Got(message_id, "", _unhessian(frame[body:]))


def _dubbo(message_id: int, text: bytes) -> bytes:
    parts = (b"2.0.2", SERVICE, b"1.0.0", b"echo", b"Ljava/lang/String;", text)
    facts = (b"path", SERVICE, b"interface", SERVICE, b"version", b"1.0.0")
    body = b"".join(map(_hessian, parts)) + b"H" + b"".join(map(_hessian, facts)) + b"Z"
    return b"\xda\xbb\xc2\x00" + message_id.to_bytes(8) + len(body).to_bytes(4) + body


def _dubbo_size(got: bytes) -> int:
    if got[:2] != b"\xda\xbb"[: len(got)]:
        raise Broken(f"not Dubbo: {got[:16]!r}")
    return 16 + int.from_bytes(got[12:16]) if len(got) >= 16 else 0


def _undubbo(frame: bytes) -> Got:
    message_id, status = int.from_bytes(frame[4:12]), frame[3]
    if status != 20:
        return Got(message_id, f"status {status}: {frame[16:80]!r}", b"")
    if frame[16] not in (0x91, 0x94):
        return Got(message_id, f"no value but {frame[16:32]!r}", b"")
    return Got(message_id, "", _unhessian(frame[17:]))


def _thrift(message_id: int, text: bytes) -> bytes:
    call = b"\x80\x01\x00\x01" + _long(b"echo") + message_id.to_bytes(4)
    return _long(call + b"\x0b\x00\x01" + _long(text) + b"\x00")


def _thrift_size(got: bytes) -> int:
    return 4 + int.from_bytes(got[:4]) if len(got) >= 4 else 0


def _unthrift(frame: bytes) -> Got:
    if frame[4:7] != b"\x80\x01\x00":
        raise Broken(f"not strict binary Thrift: {frame[:16]!r}")
    body = 12 + int.from_bytes(frame[8:12])
    message_id = int.from_bytes(frame[body : body + 4])
    if frame[7] != 2:
        return Got(message_id, f"message type {frame[7]}: {frame[body:][:80]!r}", b"")
    if frame[body + 4 : body + 7] != b"\x0b\x00\x00":
        return Got(message_id, f"no text but {frame[body + 4 :][:16]!r}", b"")
    size = int.from_bytes(frame[body + 7 : body + 11])
    return Got(message_id, "", frame[body + 11 : body + 11 + size])


@attrs.frozen
class _Form:
    write: Callable[[int, bytes], bytes]
    size: Callable[[bytes], int]
    """Bytes of the first message, as far as it can be told; 0: more are needed."""
    read: Callable[[bytes], Got]


_FORMS: Mapping[Named, _Form] = {
    "bolt": _Form(_bolt, _bolt_size, _unbolt),
    "dubbo": _Form(_dubbo, _dubbo_size, _undubbo),
    "thrift": _Form(_thrift, _thrift_size, _unthrift),
}


@attrs.define(eq=False)
class Messages:
    """See the module."""

    connection: int
    protocol: Named
    size: int
    """Bytes of the text in an answer."""
    serial: bool = attrs.field(default=False, init=False)
    ready: bool = attrs.field(default=True, init=False)
    _asked: set[int] = attrs.field(factory=set, init=False)
    _got: bytearray = attrs.field(factory=bytearray, init=False)
    _form: _Form = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._form = _FORMS[self.protocol]

    def begin(self) -> bytes:
        return b""

    def ask(self, number: int) -> bytes:
        self._asked.add(number)
        text = content(self.connection, number, _SIZES[number % len(_SIZES)])
        return self._form.write(number + 1, text)

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        got, form, answers = self._got, self._form, []
        got += data
        while got:
            size = form.size(bytes(got[:20]))
            if size > _LARGEST_BYTES:
                raise Broken(f"a message of {size} bytes")
            if not size or len(got) < size:
                break
            found = form.read(bytes(got[:size]))
            del got[:size]
            number = found.message_id - 1
            if number not in self._asked:
                raise Broken(f"an answer to {found.message_id}, which nobody asks any more")
            self._asked.discard(number)
            if found.failed:
                answers.append(Answer(number, failed=found.failed))
            else:
                due = nonce(self.connection, number) + pattern(self.size)
                answers.append(judged(number, due, found.text))
        return answers, b""
