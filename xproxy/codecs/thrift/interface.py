"""A user's interface (IDL): what calls and answers consist of, by name (thriftpy2's parser; the extra ``thrift``).

Files are read once, when the plugin is configured; they are the user's own and trusted as a configuration is. What is
kept of them is plain data: nothing of thriftpy2 sees a peer's bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xproxy.codecs.thrift.walker import I32, LIST, MAP, SET, STRING, STRUCT

_BINARY: Final = 18
"""thriftpy2's own type for ``binary``, which on the wire is a string."""


@attrs.define(eq=False)
class Shape:
    """What the interface says of a value."""

    kind: int
    """Its type, as the binary protocol numbers it."""
    binary: bool = False
    """Bytes, and not text; both are strings on the wire."""
    members: Mapping[int, str] = attrs.field(factory=dict, repr=False)
    """Of an enum: names by number."""
    fields: dict[int, tuple[str, Shape]] = attrs.field(factory=dict, repr=False)
    """Of a struct: name and shape by id. May lead back to the struct itself."""
    key: Shape | None = attrs.field(default=None, repr=False)
    """Of a map."""
    element: Shape | None = attrs.field(default=None, repr=False)
    """Of a list, a set, or a map's values."""


@attrs.frozen(eq=False)
class Signature:
    """A method: two structs."""

    arguments: Shape
    result: Shape
    """Field 0 is what it returns, the others are the exceptions that it declares."""


APPLICATION_EXCEPTION: Final = Shape(
    STRUCT, fields={1: ("message", Shape(STRING)), 2: ("type", Shape(I32))}
)
"""The struct of a TApplicationException, which needs no interface."""


@attrs.frozen(eq=False)
class Interface:
    """The services of all files."""

    services: Mapping[str, Mapping[str, Signature]]
    """Methods by service."""
    _anywhere: Mapping[str, Signature | None] = attrs.field(init=False, repr=False)

    @_anywhere.default
    def _index(self) -> Mapping[str, Signature | None]:
        found: dict[str, Signature | None] = {}
        for methods in self.services.values():
            for name, signature in methods.items():
                other = found.setdefault(name, signature)
                # Two services may have a method of one name: then a call without its service is anybody's.
                if other is None or other.arguments is not signature.arguments:
                    found[name] = None
        return found

    def signature(self, service: str, method: str) -> Signature | None:
        """Return a method's signature; without a service only if one service alone has such a method."""
        if service:
            return self.services.get(service, {}).get(method)
        return self._anywhere.get(method)


def load(paths: Iterable[Path]) -> Interface:
    """Read interface files. Raises ValueError that names the file, or the package that is missing."""
    try:
        parser: Any = importlib.import_module("thriftpy2.parser")  # Any: thriftpy2 ships no types
    except ImportError as exc:
        raise ValueError(
            "reading an interface needs thriftpy2: install xproxy with the extra 'thrift'"
        ) from exc
    services: dict[str, dict[str, Signature]] = {}
    reading = _Reading()
    for path in paths:
        try:
            # No cache: a reload of the configuration is to see what was changed in the file.
            module = parser.parser.parse(str(path), enable_cache=False)
        except Exception as exc:  # it lets through whatever goes wrong in reading or in parsing
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise ValueError(f"interface '{path}' cannot be read: {reason}") from exc
        for service in module.__thrift_meta__["services"]:
            if service.__name__ in services:
                raise ValueError(f"interface '{path}': service {service.__name__} is there twice")
            services[service.__name__] = {
                name: Signature(
                    reading.struct(getattr(service, f"{name}_args")),
                    reading.struct(getattr(service, f"{name}_result")),
                )
                for name in service.thrift_services
            }
    return Interface(services)


class _Reading:
    """Turns thriftpy2's specs into shapes; each struct once, as it may hold itself."""

    def __init__(self) -> None:
        self._structs: dict[Any, Shape] = {}  # Any: classes that thriftpy2 made

    def struct(self, cls: Any) -> Shape:  # Any: as above
        known = self._structs.get(cls)
        if known is not None:
            return known
        shape = self._structs[cls] = Shape(STRUCT)
        for number, spec in cls.thrift_spec.items():
            # (type, name, required), or (type, name, what it consists of, required)
            inner = spec[2] if len(spec) == 4 else None
            shape.fields[number] = (spec[1], self.shape(spec[0], inner))
        return shape

    def shape(self, kind: int, inner: Any) -> Shape:  # Any: what a type consists of depends on it
        if kind == STRUCT:
            return self.struct(inner)
        if kind in (LIST, SET):
            return Shape(kind, element=self._inner(inner))
        if kind == MAP:
            return Shape(kind, key=self._inner(inner[0]), element=self._inner(inner[1]))
        if kind == _BINARY:
            return Shape(STRING, binary=True)
        return Shape(kind, members=inner._VALUES_TO_NAMES if inner is not None else {})

    def _inner(self, spec: Any) -> Shape:  # Any: a type, or (type, what it consists of)
        return self.shape(*spec) if isinstance(spec, tuple) else self.shape(spec, None)
