"""A codec's state by name: declared field by field, written as a map, read back with every part checked.

Rules of this file:

* A field at its default is not written, and the order is that of the declaration: equal states are equal bytes.
* What is read is believed in nothing. An unknown name is refused, as it may say something that matters; but for one
  that begins with ``SKIPPABLE``: whoever wrote it says that it may be passed over. So a later release may add a field
  to the same version: while it is at its default, or skippable, older ones read on.
* Any other change is a new version, and the reader of the one before it stays for one minor release (idea: Avro's
  schema resolution; PNG's critical and ancillary chunks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import attrgetter, ne
from typing import Final, Generic, TypeAlias, TypeVar, cast

import attrs
import msgpack

from xproxy.codecs.packing import open_state
from xproxy.codecs.state_kinds import Kind

T = TypeVar("T")

SKIPPABLE: Final = "?"
"""The first letter of a key that a reader may pass over if it does not know it."""
_SHOWN: Final = 40
"""Characters of an unknown key that a message shows."""


class _Required:
    """Stands for the default of a field that has none."""


REQUIRED: Final = _Required()


@attrs.frozen
class StateField:
    """One attribute of a state."""

    name: str
    """Of the attribute, and of the argument to whatever makes the object again."""
    kind: Kind[object]
    default: object
    key: str
    """What the field is called in the map."""


def state_field(
    name: str, kind: Kind[T], default: T | _Required | None = REQUIRED, *, key: str = ""
) -> StateField:
    """Declare a field; ``key``: its name in the map, if not ``name``. A default of None is never written.

    A default that is a list or a dict must be an empty one; each object gets its own.
    """
    # cast: a field of any kind; it only ever meets values of its own
    return StateField(name, cast("Kind[object]", kind), default, key or name)


class StateRecord(Generic[T]):
    """Objects of one class as maps: those of a state, and those within another's fields (``kind``)."""

    __slots__ = ("_defaults", "_every", "_get", "_make", "_one", "_own", "_readers", "_writers")

    def __init__(self, make: Callable[..., T], *fields: StateField) -> None:
        """Declare it; ``make`` gets every field by name, and may raise ValueError where they do not go together."""
        names = [one.name for one in fields]
        keys = [one.key for one in fields]
        assert len(set(names)) == len(names), "an attribute twice"
        assert len(set(keys)) == len(keys), "a key twice"
        self._make = make
        self._get = attrgetter(*names)
        self._one = len(names) == 1
        self._every = [one.default for one in fields]
        self._writers = [(one.key, one.kind.write) for one in fields]
        self._readers = {one.key: (one.name, one.kind.read) for one in fields}
        self._defaults = {
            one.name: one.default
            for one in fields
            if one.default is not REQUIRED and not isinstance(one.default, list | dict)
        }
        self._own: list[tuple[str, type]] = []
        for one in fields:
            if isinstance(one.default, list | dict):
                assert not one.default, f"the default of {one.name} is not empty"
                self._own.append((one.name, type(one.default)))

    @property
    def kind(self) -> Kind[T]:
        """The kind of fields that hold such an object."""
        return Kind(self.read, self.write)

    def write(self, value: T) -> dict[str, object]:
        """Return the map of an object."""
        items = self._get(value)
        if self._one:
            items = (items,)
        # Most fields are at their defaults: those are passed over before any code of ours runs.
        told = compress(zip(self._writers, items, strict=True), map(ne, items, self._every))
        return {key: item if write is None else write(item) for (key, write), item in told}

    def read(self, found: object) -> T:
        """Return the object that was written as this map. Raises ValueError, which names the field."""
        if type(found) is not dict:
            raise ValueError("is no map")
        readers, values = self._readers, self._defaults.copy()
        for name, own in self._own:
            values[name] = own()
        for key, item in found.items():
            known = readers.get(key)
            if known is None:
                if type(key) is str and key.startswith(SKIPPABLE):
                    continue
                raise ValueError(f"has an unknown field {str(key)[:_SHOWN]!r}")
            try:
                values[known[0]] = known[1](item)
            except ValueError as exc:
                raise ValueError(f"has {key}, which {exc}") from exc
        if len(values) < len(readers):
            missing = next(key for key, (name, _) in readers.items() if name not in values)
            raise ValueError(f"has no {missing}")
        return self._make(**values)


def by_place(names: Sequence[str], parts: Sequence[object]) -> dict[str, object]:
    """Return the map of a state whose fields had places and no names. Raises ValueError for more or fewer of them.

    For readers of the version before: the map is a record's to read.
    """
    if len(parts) != len(names):
        raise ValueError(f"has {len(parts)} fields, not {len(names)}")
    return dict(zip(names, parts, strict=True))


Previous: TypeAlias = Callable[[list[object]], T]
"""What reads an older version: from what follows the version. Raises ValueError."""


class StateSchema(Generic[T]):
    """A codec's whole state: its name, the version that is written, and the versions that are read."""

    __slots__ = ("_previous", "_record", "codec", "version")

    def __init__(
        self,
        codec: str,
        version: int,
        record: StateRecord[T],
        previous: Mapping[int, Previous[T]] | None = None,
    ) -> None:
        self.codec = codec
        self.version = version
        self._record = record
        self._previous = dict(previous or {})
        assert version not in self._previous

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that are read; the last one is written."""
        return (*sorted(self._previous), self.version)

    def pack(self, state: T) -> bytes:
        """Write a state down. The same state gives the same bytes."""
        packed: bytes = msgpack.packb([self.codec, self.version, self._record.write(state)])
        return packed

    def unpack(self, data: bytes) -> T:
        """Read a state of a version that is known. Raises ValueError for anything else, whoever wrote it."""
        version, parts = open_state(self.codec, data)
        try:
            if version == self.version:
                if len(parts) != 1:
                    raise ValueError("has other parts")
                return self._record.read(parts[0])
            previous = self._previous.get(version)
            if previous is None:
                raise ValueError(f"is of version {version}, known are {self.versions}")
            return previous(parts)
        except ValueError as exc:
            raise ValueError(f"a snapshot of {self.codec} {exc}") from exc
