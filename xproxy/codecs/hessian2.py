"""hessian2: reading, writing and passing over the few kinds of values that a proxy needs to know.

(The table is that of the hessian2 specification; strings are as Dubbo's hessian-lite writes them.) Strings
count UTF-16 units. A character outside the BMP is written as two surrogates of three bytes each, as Java does
it; it is read in that form and as one of four bytes. What is not UTF-8 is refused: where it ends, each peer
would have its own opinion.
"""

from __future__ import annotations

import struct
from typing import Final

_SHORT_TEXT: Final = 31
_MEDIUM: Final = 1023
_LONG_CHUNK: Final = 0x8000
_CONTINUATION: Final = bytes(range(0x80, 0xC0))


class HessianError(ValueError):
    """The bytes are no hessian2, or not what was asked for. The text names no payload."""


# ---- passing over


def is_text(lead: int) -> bool:
    """Tell whether a value that begins so is a string."""
    return lead < 0x20 or 0x30 <= lead <= 0x33 or lead == 0x52 or lead == 0x53


def is_binary(lead: int) -> bool:
    """Tell whether a value that begins so is binary."""
    return 0x20 <= lead <= 0x2F or 0x34 <= lead <= 0x37 or lead == 0x41 or lead == 0x42


_SHORT_CHUNK: Final = 1024
MAX_SHORT_CHUNKS: Final = 64
"""Chunks of less than 1,024 bytes in one string or binary value, but for the last: writers make them of 32 KiB."""


def _one_more(short: int) -> int:
    if short == MAX_SHORT_CHUNKS:
        raise HessianError(f"a value in more than {MAX_SHORT_CHUNKS} short chunks")
    return short + 1


def past_chunk(data: bytes, at: int) -> int:
    """Return where a chunk ends that more follow. Raises HessianError or IndexError."""
    if data[at] == 0x41:
        _, at, size = _binary_chunk(data, at)
        at += size
        if not is_binary(data[at]):
            raise HessianError("not binary")
        return at
    _, at, units = _text_chunk(data, at)
    end = at + units
    chunk = data[at:end]
    if len(chunk) < units:
        raise HessianError("ends within a string")
    at = end if chunk.isascii() else past_units(data, at, units)
    if not is_text(data[at]):
        raise HessianError("not a string")
    return at


def past_text(data: bytes, at: int) -> int:
    """Return where the string at ``at`` ends. Raises HessianError or IndexError."""
    short = 0
    while True:
        more, at, units = _text_chunk(data, at)
        if more and units < _SHORT_CHUNK:
            short = _one_more(short)
        end = at + units
        chunk = data[at:end]
        if len(chunk) < units:
            raise HessianError("ends within a string")
        at = end if chunk.isascii() else past_units(data, at, units)
        if not more:
            return at


def _text_chunk(data: bytes, at: int) -> tuple[bool, int, int]:
    """Return whether more follow, where the characters begin, and their length in UTF-16 units."""
    lead = data[at]
    if lead < 0x20:
        return False, at + 1, lead
    if 0x30 <= lead <= 0x33:
        return False, at + 2, (lead - 0x30 << 8) + data[at + 1]
    if lead == 0x52 or lead == 0x53:
        return lead == 0x52, at + 3, (data[at + 1] << 8) + data[at + 2]
    raise HessianError("not a string")


def past_units(data: bytes, at: int, units: int) -> int:
    """Return where so many UTF-16 units, 1 at least, end. Raises HessianError.

    At the speed of ``bytes``: each round covers a third of what is left.
    """
    start = at
    longest = at + 3 * units
    while units > 0:
        # Each unit left is a byte at least, so that a round never goes beyond the last character.
        chunk = data[at : at + units]
        if len(chunk) < units or at >= longest:
            raise HessianError("ends within a string")
        leads = chunk.translate(None, _CONTINUATION)
        at += units
        units -= len(leads)
        if not leads.isascii():
            units -= sum(map(leads.count, _FOUR_BYTES))  # each is a pair of surrogates
    if units < 0:
        raise HessianError("a string ends within a pair of surrogates")
    # The last character's lead says where it ends; a value that follows may well look like more of it.
    at -= 1
    while at > start and 0x80 <= data[at] <= 0xBF:
        at -= 1
    lead = data[at]
    at += 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    try:
        data[start:at].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise HessianError("a string that is not UTF-8") from None
    return at


_FOUR_BYTES: Final = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")


def past_binary(data: bytes, at: int) -> int:
    """Return where the binary value at ``at`` ends, perhaps beyond the data. Raises HessianError or IndexError."""
    short = 0
    while True:
        more, at, size = _binary_chunk(data, at)
        if more and size < _SHORT_CHUNK:
            short = _one_more(short)
        at += size
        if not more:
            return at


def _binary_chunk(data: bytes, at: int) -> tuple[bool, int, int]:
    """Return whether more follow, where the bytes begin, and how many they are."""
    lead = data[at]
    if 0x20 <= lead <= 0x2F:
        return False, at + 1, lead - 0x20
    if 0x34 <= lead <= 0x37:
        return False, at + 2, (lead - 0x34 << 8) + data[at + 1]
    if lead == 0x41 or lead == 0x42:
        return lead == 0x41, at + 3, (data[at + 1] << 8) + data[at + 2]
    raise HessianError("not binary")


def past_type(data: bytes, at: int) -> int:
    """Pass over the name of a type, or its number among those named before. Raises HessianError or IndexError."""
    if is_text(data[at]):
        return past_text(data, at)
    return read_int(data, at)[1]


# ---- reading


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """Return the string at ``at`` and where it ends. Raises HessianError or IndexError."""
    lead = data[at]
    if lead < 0x20:  # nearly all of them
        end = at + 1 + lead
        chunk = data[at + 1 : end]
        if len(chunk) == lead and chunk.isascii():
            return chunk.decode(), end
    parts: list[bytes] = []
    more = True
    short = 0
    while more:
        more, at, units = _text_chunk(data, at)
        if more and units < _SHORT_CHUNK:
            short = _one_more(short)
        end = at + units
        chunk = data[at:end]
        if len(chunk) < units:
            raise HessianError("ends within a string")
        if not chunk.isascii():
            end = past_units(data, at, units)
            chunk = data[at:end]
        parts.append(chunk)
        at = end
    text = b"".join(parts).decode("utf-8", "surrogatepass")
    if not text.isascii():
        text = text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
    return text, at


def read_binary(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the binary value at ``at`` and where it ends. Raises HessianError or IndexError."""
    parts: list[bytes] = []
    more = True
    short = 0
    while more:
        more, at, size = _binary_chunk(data, at)
        if more and size < _SHORT_CHUNK:
            short = _one_more(short)
        chunk = data[at : at + size]
        if len(chunk) < size:
            raise HessianError("ends within binary")
        parts.append(chunk)
        at += size
    return parts[0] if len(parts) == 1 else b"".join(parts), at


def read_int(data: bytes, at: int) -> tuple[int, int]:
    """Return the int at ``at`` and where it ends. Raises HessianError or IndexError."""
    lead = data[at]
    if 0x80 <= lead <= 0xBF:
        return lead - 0x90, at + 1
    if 0xC0 <= lead <= 0xCF:
        return (lead - 0xC8 << 8) + data[at + 1], at + 2
    if 0xD0 <= lead <= 0xD7:
        return (lead - 0xD4 << 16) + (data[at + 1] << 8) + data[at + 2], at + 3
    if lead == 0x49:
        return _signed(data, at + 1, 4)
    raise HessianError("not an int")


def _signed(data: bytes, at: int, size: int) -> tuple[int, int]:
    field = data[at : at + size]
    if len(field) < size:
        raise HessianError("ends within a number")
    return int.from_bytes(field, signed=True), at + size


def read_scalar(data: bytes, at: int) -> tuple[str | None, int]:
    """Return a string, whole number, truth value or null (empty) as text, and where it ends; None for anything else.

    Raises HessianError or IndexError.
    """
    lead = data[at]
    if lead < 0x20 or is_text(lead):
        return read_text(data, at)
    if lead == 0x4E:
        return "", at + 1
    if lead == 0x54 or lead == 0x46:
        return "true" if lead == 0x54 else "false", at + 1
    if lead == 0x49 or 0x80 <= lead <= 0xD7:
        number, at = read_int(data, at)
    elif 0xD8 <= lead <= 0xEF:
        number, at = lead - 0xE0, at + 1
    elif lead >= 0xF0:
        number, at = (lead - 0xF8 << 8) + data[at + 1], at + 2
    elif 0x38 <= lead <= 0x3F:
        number, at = (lead - 0x3C << 16) + (data[at + 1] << 8) + data[at + 2], at + 3
    elif lead == 0x4C:
        number, at = _signed(data, at + 1, 8)
    elif lead == 0x59:
        number, at = _signed(data, at + 1, 4)
    else:
        return None, at
    return str(number), at


# ---- writing


def write_text(text: str) -> bytes:
    """Write a string. Lone surrogates are written as they are."""
    if text.isascii():
        raw = text.encode()
        units = len(raw)
        if units <= _SHORT_TEXT:
            return bytes((units,)) + raw
        if units <= _MEDIUM:
            return bytes((0x30 + (units >> 8), units & 0xFF)) + raw
    # Every unit for itself: a pair of surrogates is two characters to Java.
    pairs = text.encode("utf-16-be", "surrogatepass")
    units = len(pairs) // 2
    if units <= _SHORT_TEXT:
        return bytes((units,)) + _three_bytes(pairs)
    if units <= _MEDIUM:
        return bytes((0x30 + (units >> 8), units & 0xFF)) + _three_bytes(pairs)
    parts: list[bytes] = []
    for start in range(0, units, _LONG_CHUNK):
        count = min(_LONG_CHUNK, units - start)
        parts.append((b"R" if start + count < units else b"S") + count.to_bytes(2))
        parts.append(_three_bytes(pairs[2 * start : 2 * (start + count)]))
    return b"".join(parts)


def _three_bytes(pairs: bytes) -> bytes:
    """Turn UTF-16 into UTF-8 in which surrogates stay what they are."""
    units = struct.unpack(f">{len(pairs) // 2}H", pairs)
    return "".join(map(chr, units)).encode("utf-8", "surrogatepass")


def write_binary(data: bytes) -> bytes:
    """Write binary."""
    size = len(data)
    if size <= 15:
        return bytes((0x20 + size,)) + data
    if size <= _MEDIUM:
        return bytes((0x34 + (size >> 8), size & 0xFF)) + data
    parts: list[bytes] = []
    for start in range(0, size, _LONG_CHUNK):
        chunk = data[start : start + _LONG_CHUNK]
        parts.append((b"A" if start + len(chunk) < size else b"B") + len(chunk).to_bytes(2))
        parts.append(chunk)
    return b"".join(parts)
