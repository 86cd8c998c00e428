"""What became of a request: written by router, clusters, filters and drivers, for access logs and retries."""

from __future__ import annotations

import attrs

from xproxy.model.status import Status


@attrs.define(eq=False)
class Record:
    """One request's."""

    route: str = ""
    """The route's name."""
    cluster: str = ""
    """The name of the one that it goes to."""
    flags: str = ""
    """Envoy's response flags, comma-separated."""
    detail: str = ""
    """Why a reply was made here."""
    received_bytes: int = 0
    """Request body bytes forwarded."""
    sent_bytes: int = 0
    """Response body bytes sent to the client."""
    response_started: bool = False
    """The response head is on its way to the client: nothing may be retried any more."""
    local: bool = False
    """The response was made here."""
    outcome: Status | None = None
    """How the exchange ended, where trailers or what came instead of them told another thing than the head.
    Written by drivers, and by filters that take trailers away."""
    logged: bool = False
    """An access log has its line. Written by that filter."""

    def flag(self, code: str) -> None:
        """Note a response flag, once."""
        if code != "-" and code not in self.flags.split(","):
            self.flags = f"{self.flags},{code}" if self.flags else code
