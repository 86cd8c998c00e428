"""What a running proxy knows that the process that takes over should know, too: its parts, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from xproxy.codecs.state_kinds import number
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.proxy.runtime import Runtime
from xproxy.proxy.silent import CarriedSilence
from xproxy.stream.carrying import CarriedAs, SupportsCarry


@attrs.frozen
class _Applied:
    configurations: int


_SCHEMA: Final = StateSchema(
    "process", 1, StateRecord(_Applied, state_field("configurations", number(0, 2**53)))
)


@attrs.frozen(eq=False)
class ProcessState:
    """How many configurations have been in force, over all processes."""

    runtime: Runtime

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(kind="process", name="xproxy", version=1)

    def carry(self) -> bytes:
        """See SupportsCarry."""
        return _SCHEMA.pack(_Applied(self.runtime.generation))

    def resume(self, data: bytes) -> None:
        """See SupportsCarry: this process's own come after those."""
        self.runtime.generation += _SCHEMA.unpack(data).configurations


def carrying_parts(runtime: Runtime) -> Iterator[SupportsCarry]:
    """Give all parts of what is in force, in the order in which they are to be resumed.

    Another configuration may come into force meanwhile: they are those of the one it began with.
    """
    yield ProcessState(runtime)
    snapshot = runtime.snapshot
    if snapshot is None:
        return
    listeners = list(runtime.listeners.items())
    for cluster in snapshot.clusters.values():
        yield from cluster.carrying()
    for name, active in listeners:
        server_first = active.config.server_first
        if server_first is not None:
            yield CarriedSilence(name, server_first, active.chains.silent_destinations)
    yield from snapshot.carrying
