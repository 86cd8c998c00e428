"""A protocol's own status codes ↔ neutral ones, both ways total: for whatever a peer sends, or goes wrong here."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status


@attrs.frozen(eq=False)
class StatusTable:
    """One protocol's."""

    meanings: Mapping[int, Status]
    """What each code that the protocol defines means."""
    codes: Mapping[Status, int]
    """Of replies made here. Every status is there."""
    finer: Mapping[Reason, int] = attrs.field(factory=dict)
    """The same where it is known why, and the protocol has a word for it."""

    def from_native(self, native_status: int) -> Status:
        """Return what a code of the wire means; UNKNOWN for one that the protocol does not define."""
        return self.meanings.get(native_status, Status.UNKNOWN)

    def to_native(self, status: Status, reason: Reason = Reason.NONE) -> int:
        """Return the code to send for a reply made here."""
        if reason in self.finer and status is not Status.OK:
            return self.finer[reason]
        return self.codes[status]

    def is_known(self, native_status: int) -> bool:
        """Tell whether the protocol defines this code: some clients fail on any other."""
        return native_status in self.meanings

    def code_of(self, head: ResponseHead) -> int:
        """Return the code of a local reply."""
        extra = head.extra
        return self.to_native(
            head.status, extra.reason if isinstance(extra, Local) else Reason.NONE
        )
