"""Version 3 of a codec's state, whose fields had places and no names. It is read until nothing writes it any more.

Rule of this file: it gives each value its name, and believes none. ``snapshot`` reads the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xproxy.codecs.state_schema import by_place

_FLAGS: Final = (
    "greeted",
    "acknowledged",
    "block_end",
    "connect",
    "due",
    "unheard",
    "retiring",
)
_NUMBERS: Final = (
    "highest",
    "needed",
    "block_stream",
    "block_pieces",
    "inbound",
    "owed",
    "spare",
    "first_inbound",
    "outbound",
    "first_outbound",
    "frame_bytes",
    "most_streams",
    "head_bytes",
    "peer_last",
    "last_served",
)
_COUNTERS: Final = (
    "streams",
    "data_in",
    "data_out",
    "control",
    "empty",
    "priorities",
    "resets",
    "window_updates",
    "early",
    "now",
    "since",
)
_STREAM: Final = (
    "id",
    "receiving",
    "sending",
    "headed",
    "spoken",
    "muted",
    "unanswered",
    "connect",
    "upgrade",
    "call",
    "web_call",
    "expected",
    "owing",
    "inbound",
    "outbound",
    "owed",
    "unconsumed",
    "opened",
    "grown",
)
_PARTS: Final = (
    "role",
    "stage",
    "drain",
    "flags",
    "numbers",
    "buffer",
    "block",
    "decoder",
    "encoder",
    "resizes",
    "streams",
    "held",
    "past",
    "counters",
    "waiting",
)


def named(parts: list[object]) -> dict[str, object]:
    """Return the map of version 4 that says what these parts say. Raises ValueError."""
    found = _by_place(_PARTS, parts)
    found |= _by_place(_FLAGS, found.pop("flags"))
    found |= _by_place(_NUMBERS, found.pop("numbers"))
    del found["last_served"]  # it was never looked at
    buffer = _list(found.pop("buffer"))
    if buffer:
        (found["buffer"],) = _exactly(buffer, 1)
    end, stream_id, pieces = [found.pop(f"block_{name}") for name in ("end", "stream", "pieces")]
    block = _list(found.pop("block"))
    if block:
        (data,) = _exactly(block, 1)
        found["block"] = {"stream_id": stream_id, "end": end, "pieces": pieces, "data": data}
    for table in ("decoder", "encoder"):
        found[table] = _by_place(("maximum", "entries"), found[table])
    found["streams"] = dict([_stream(row) for row in _list(found["streams"])])
    found["held"] = {_id(id_): rest for id_, *rest in map(_row_of_3, _list(found["held"]))}
    found["past"] = _by_place(("abandoned", "forgotten", "skipped"), found["past"])
    found["counters"] = _by_place(_COUNTERS, found["counters"])
    found["waiting"] = dict([_waiting(row) for row in _list(found["waiting"])])
    return found


def _list(value: object) -> list[object]:
    if type(value) is not list:
        raise ValueError("has something else in the place of a list")
    return value


def _exactly(value: object, size: int) -> list[object]:
    items = _list(value)
    if len(items) != size:
        raise ValueError(f"has a list of {len(items)} in the place of one of {size}")
    return items


def _row_of_3(value: object) -> list[object]:
    return _exactly(value, 3)


def _id(value: object) -> int:
    if type(value) is not int:
        raise ValueError("has something else in the place of a stream's id")
    return value


def _by_place(names: Sequence[str], value: object) -> dict[str, object]:
    return by_place(names, _list(value))


def _stream(row: object) -> tuple[int, dict[str, object]]:
    found = _by_place(_STREAM, row)
    directions = (found.pop("receiving"), found.pop("sending"))
    if [type(one) for one in directions] != [bool, bool] or not any(directions):
        raise ValueError("has a stream that is not open")
    if all(directions):
        found["state"] = "open"
    else:
        found["state"] = "half-closed (local)" if directions[0] else "half-closed (remote)"
    return _id(found.pop("id")), found


def _waiting(row: object) -> tuple[int, list[object]]:
    stream_id, *rest = _list(row)
    return _id(stream_id), rest
