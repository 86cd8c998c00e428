"""What is bound to a downstream connection, and ends with it: upstream connections of its own."""

from __future__ import annotations

from xproxy.stream.exchange import Closable


class Bindings:
    """The part of ``Downstream`` that all drivers share."""

    __slots__ = ()
    _bindings: dict[object, Closable] | None  # made when first used: most connections have none

    def bind(self, key: object, bound: Closable) -> None:
        """See Downstream."""
        if self._bindings is None:
            self._bindings = {}  # type: ignore[misc]  # each driver has the slot
        self._bindings[key] = bound

    def bound(self, key: object) -> Closable | None:
        """See Downstream."""
        return self._bindings.get(key) if self._bindings is not None else None

    def all_bound(self) -> list[tuple[object, Closable]]:
        """Return all that is bound to this connection, with its keys."""
        return list((self._bindings or {}).items())

    def binds_others(self, *than: object) -> bool:
        """Whether anything else is bound to it."""
        return any(bound not in than for bound in (self._bindings or {}).values())

    def unbind(self, key: object) -> None:
        """See Downstream."""
        if self._bindings is not None:
            self._bindings.pop(key, None)

    def close_bound(self) -> None:
        """The connection has ended."""
        bindings = self._bindings
        self._bindings = None  # type: ignore[misc]  # likewise
        for bound in (bindings or {}).values():
            bound.close_soon()
