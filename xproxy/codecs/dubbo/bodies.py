"""Bodies of Dubbo messages, written anew: with what was changed of a head, or for a head of other origin."""

from __future__ import annotations

from math import ceil
from typing import Final

from xproxy.codecs.dubbo.attachments import (
    TARGETS,
    TIMEOUT,
    VERSION,
    add_to_map,
    change_map,
    write_map,
)
from xproxy.codecs.dubbo.heads import (
    EXCEPTION,
    HESSIAN2,
    NO_VALUE,
    VALUE,
    WITH_ATTACHMENTS,
    Answer,
    Call,
)
from xproxy.codecs.dubbo.prefix import BYTES, make_prefix
from xproxy.codecs.dubbo.status import OK
from xproxy.codecs.hessian2 import HessianError, past_text, write_binary, write_text
from xproxy.model.errors import LocalProtocolError
from xproxy.model.message import RequestHead, ResponseHead

ATTACHABLE: Final = 0x20
"""In a dialect, beside the serialization id: the caller understands an answer with attachments."""

_LONGEST_TIMEOUT_MS: Final = 0x7FFFFFFF


def call_again(head: RequestHead, call: Call, data: bytes) -> bytes:
    """Write the body of a request that was read here, with what was changed of it."""
    prefix, attachments = call.prefix, call.attachments
    if prefix is None or attachments is None:
        shown = call.service, call.method, call.shown
        if (head.service, head.method, head.headers) != shown:
            raise LocalProtocolError(
                f"serialisation {call.serialization} is not understood: passed on, not changed"
            )
        return data
    headers, tail, path = head.headers, call.tail, head.service
    if head.deadline is not None:
        headers = headers.set(TIMEOUT, _milliseconds(head.deadline))
    if headers is not attachments or path != prefix.path:
        changed = b""
        base = head.base
        if (
            base is not None
            and base.headers is attachments
            and head.deadline is None
            and path == prefix.path
        ):
            changed = add_to_map(attachments.map, head.added)
        if not changed:
            changed = change_map(attachments.map, headers, prefix.path, path)
        if tail is None:
            data = data[: attachments.locate(data, 0, prefix.parameters)] + changed
        else:
            tail = changed
    method, version = prefix.method, prefix.version
    if headers is not attachments:
        said = headers.get(VERSION)
        if said != attachments.get(VERSION):
            version = said or ""
    if head.method != call.method:
        if call.method == method:
            method = head.method
        else:
            data = _with_method(data, head.method)
    if (path, method, version) != (prefix.path, prefix.method, prefix.version):
        prefix = make_prefix(
            path, method, prefix.types, version=version, release=prefix.release, mark=prefix.mark
        )
    return prefix.block + data if tail is None else prefix.block + write_binary(data) + tail


def _with_method(data: bytes, method: str) -> bytes:
    """Put another method into a generic call."""
    try:
        return write_text(method) + data[past_text(data, 0) :]
    except (HessianError, IndexError) as exc:
        raise LocalProtocolError("the body that was put in place is no generic call") from exc


def new_call(head: RequestHead, data: bytes) -> bytes:
    headers = head.headers
    prefix = make_prefix(head.service, head.method, BYTES, version=headers.get(VERSION) or "")
    pairs = [(name, head.service) for name in ("path", "interface")]
    pairs += [pair for pair in headers if pair[0] not in TARGETS]
    if head.deadline is not None:
        pairs.append((TIMEOUT, _milliseconds(head.deadline)))
    return prefix.block + write_binary(data) + write_map(pairs)


def answer_again(head: ResponseHead, answer: Answer, data: bytes, dialect: int) -> bytes:
    """Write the body of an answer that was read here. New headers get lost where it has no place for them."""
    headers, attachments, tail = head.headers, answer.attachments, answer.tail
    if attachments is not None:
        if headers is attachments:
            return data if tail is None else value_of(data, tail)
        changed = change_map(attachments.map, headers, None, None)
        if tail is not None:
            return value_of(data, changed)
        values = 0 if data[:1] == bytes((NO_VALUE + WITH_ATTACHMENTS,)) else 1
        return data[: attachments.locate(data, 1, values)] + changed
    added = write_map(headers.pairs) if headers and dialect & ATTACHABLE else b""
    if tail is not None:
        return value_of(data, added)
    is_plain = answer.serialization == HESSIAN2 and head.native_status == OK
    if added and is_plain and data and EXCEPTION <= data[0] <= NO_VALUE:
        return bytes((data[0] + WITH_ATTACHMENTS,)) + data[1:] + added
    return data


def value_of(content: bytes, attachments: bytes) -> bytes:
    """Write the body of an answer whose value is a byte array."""
    first = VALUE + WITH_ATTACHMENTS if attachments else VALUE
    return b"".join((bytes((first,)), write_binary(content), attachments))


def _milliseconds(deadline: float) -> str:
    return str(min(max(1, ceil(deadline * 1000)), _LONGEST_TIMEOUT_MS))
