"""States as the codecs of a release wrote them, in ``states/``, for later releases to read.

    python -m tests.codecs.kept_states > tests/codecs/states/X.Y.Z.json

is run once, with what is released. Each entry says what had been read, the state after it, and what came then.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import attrs

from xproxy.codecs.api import CodecPlugin, SupportsSnapshot
from xproxy.registry import default_registry
from xproxy.testing.reading import Reader, record
from xproxy.testing.subject import Subject

FOLDER: Final = Path(__file__).parent / "states"
_PLACES: Final = 5
"""States kept of each stream."""
_LONGEST: Final = 1500
"""Bytes of a stream that is worth it."""


@attrs.frozen
class Kept:
    """A state, and what led to it."""

    codec: str
    stream: str
    """The kit's name of what was read; it says who asked what before."""
    before: bytes
    state: bytes
    after: bytes


def of(plugin: CodecPlugin) -> list[Kept]:
    """Return states of a codec at places in each stream of the kit's."""
    kept = []
    for stream in record(Subject(plugin)):
        data = stream.segments[0]
        if len(data) > _LONGEST:
            continue
        for place in range(_PLACES):
            offset = len(data) * place // (_PLACES - 1)
            reader = Reader(Subject(plugin), attrs.evolve(stream, segments=(data,)))
            reader.look(data[:offset])
            if not isinstance(reader.codec, SupportsSnapshot):
                return []
            state = reader.codec.snapshot()
            kept.append(Kept(plugin.name, stream.name, data[:offset], state, data[offset:]))
    return kept


def load() -> list[tuple[str, Kept]]:
    """Return all that was kept, with its release."""
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        for entry in json.loads(file.read_text()):
            before, state, after = (
                bytes.fromhex(entry[name]) for name in ("before", "state", "after")
            )
            kept = Kept(entry["codec"], entry["stream"], before, state, after)
            found.append((file.stem, kept))
    return found


def main() -> None:
    """Write those of the codecs that come with xproxy."""
    registry = default_registry()
    plugins = [registry.codec(name) for name in registry.names("xproxy.codecs")]
    entries = [
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in attrs.asdict(kept).items()
        }
        for plugin in plugins
        if type(plugin).__module__.startswith("xproxy.")
        for kept in of(plugin)
    ]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    sys.stdout.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
