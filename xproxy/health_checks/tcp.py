"""Health check by bytes: what is sent, and what must come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from xproxy.model.limits import KIB
from xproxy.transport.stream import write_all
from xproxy.upstream.health.api import CheckFailed, Passed, Probe

MOST_BYTES: Final = 64 * KIB
"""Of an answer that is looked at."""


def payload(text: str) -> bytes:
    """Return the bytes of ``hex:0a0b``, or of any other text as it is. Raises ValueError."""
    if not text.startswith("hex:"):
        return text.encode()
    return bytes.fromhex(text[4:])


def found_in_order(blocks: Sequence[bytes], data: bytes | bytearray) -> bool:
    """Whether each block occurs, after the one before it, with anything between them."""
    at = 0
    for block in blocks:
        at = data.find(block, at)
        if at < 0:
            return False
        at += len(block)
    return True


def _are_payloads(_check: object, _field: attrs.Attribute[Any], value: Any) -> None:
    # Any: a field of any type; a text, or several
    for text in (value,) if isinstance(value, str) else value:
        try:
            payload(text)
        except ValueError as exc:
            raise ValueError(f"{text!r} is not hex: followed by hexadecimal digits") from exc


@attrs.frozen(kw_only=True)
class Tcp:
    """A connection, and bytes over it where any are given. Texts, or ``hex:`` and hexadecimal digits."""

    send: str = attrs.field(default="", validator=_are_payloads)
    """What is sent first."""
    receive: tuple[str, ...] = attrs.field(default=(), validator=_are_payloads)
    """What must come, in this order, with anything in between. Nothing given: to connect is enough."""

    async def __call__(self, probe: Probe) -> Passed | None:
        """See HealthCheck."""
        stream = await probe.connect()
        if self.send:
            await write_all(stream, payload(self.send))
        blocks = [payload(text) for text in self.receive]
        data = bytearray()
        while not found_in_order(blocks, data):
            if len(data) > MOST_BYTES:
                raise CheckFailed(f"{MOST_BYTES} bytes came without what is expected (receive)")
            more = await stream.read()
            if not more:
                raise CheckFailed("the endpoint has closed the connection")
            data += more
        return None
