"""A cluster's endpoints at one moment: by priority and locality, and which of them are available."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from xproxy.upstream.endpoint import Endpoint, Locality


@attrs.frozen(eq=False)
class Group:
    """The endpoints of one priority in one locality, in the order of the configuration."""

    priority: int
    locality: Locality
    endpoints: tuple[Endpoint, ...]
    """All of them; at least one."""
    available: tuple[Endpoint, ...]
    """Those that are fit, not degraded, and not marked as failing; the same object where that is all."""
    degraded: tuple[Endpoint, ...] = ()
    """Those that are fit and not failing, but degraded."""

    def at(self, now: float) -> Group:
        """Return it with the marks of ``now`` (trio clock)."""
        fit = [one for one in self.endpoints if not one.unfit and one.failing_until <= now]
        available = tuple([one for one in fit if not one.degraded])
        if len(available) == len(self.endpoints):
            return Group(self.priority, self.locality, self.endpoints, self.endpoints)
        degraded = tuple([one for one in fit if one.degraded])
        return Group(self.priority, self.locality, self.endpoints, available, degraded)


@attrs.frozen(eq=False)
class HostSet:
    """All groups, those of the best priority first. A change of endpoints or marks is another set."""

    groups: tuple[Group, ...]
    """None: there is no endpoint."""
    returns_at: float = math.inf
    """When the next that is failing becomes available (trio clock, seconds); inf: none is failing."""

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> HostSet:
        """Return the set of ``endpoints``; nobody has looked at their marks yet."""
        found: dict[tuple[int, Locality], list[Endpoint]] = {}
        for endpoint in endpoints:
            found.setdefault((endpoint.priority, endpoint.locality), []).append(endpoint)
        return cls(
            tuple(
                Group(priority, locality, tuple(members), tuple(members))
                for (priority, locality), members in _by_priority(found)
            )
        )

    def at(self, now: float) -> HostSet:
        """Return the set with the marks of ``now`` (trio clock)."""
        groups = tuple([group.at(now) for group in self.groups])
        until = [
            endpoint.failing_until
            for group in groups
            if group.available is not group.endpoints
            for endpoint in group.endpoints
            if endpoint.failing_until > now
        ]
        return HostSet(groups, min(until, default=math.inf))

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them."""
        return _joined([group.endpoints for group in self.groups])

    @property
    def preferred(self) -> tuple[Endpoint, ...]:
        """The available ones of the best priority that has any, else degraded ones likewise; none: nobody is fit."""
        first = next((group.priority for group in self.groups if group.available), None)
        if first is None:
            first = next((group.priority for group in self.groups if group.degraded), None)
            return _joined([group.degraded for group in self.groups if group.priority == first])
        return _joined([group.available for group in self.groups if group.priority == first])


def _by_priority(
    groups: Mapping[tuple[int, Locality], list[Endpoint]],
) -> list[tuple[tuple[int, Locality], list[Endpoint]]]:
    return sorted(groups.items(), key=lambda item: item[0][0])


def _joined(parts: Sequence[tuple[Endpoint, ...]]) -> tuple[Endpoint, ...]:
    if len(parts) == 1:
        return parts[0]
    return tuple([endpoint for part in parts for endpoint in part])
