"""What a cluster's endpoints are spoken to in where the configuration says nothing of it (``codec: auto``)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.model.traits import WEB_FAMILY, Sharing, Traits


@attrs.frozen(eq=False)
class Untold:
    """The choice. A browser agrees on HTTP/2 with us, and an ordinary web server behind us knows nothing of that."""

    ordinary: CodecPlugin | None
    """For web requests that are nothing special; None: none is installed, and they go on as they came."""
    calls: Mapping[str, CodecPlugin]
    """For calls, by dialect: what they were made for."""
    secured: bool
    """With TLS, where an endpoint can be asked."""

    def of(self, protocol: str, downstream: Traits) -> CodecPlugin | None:
        """Return the codec for a client's protocol, or for the dialect of its calls; None: ask, or as it came."""
        call = self.calls.get(protocol)
        if call is not None:
            return call
        if downstream.family != WEB_FAMILY or self.offers(downstream):
            return None
        return self.ordinary

    def offers(self, downstream: Traits) -> bool:
        """Say whether an endpoint is asked in TLS: where the client's own version is not what every endpoint has."""
        return (
            self.secured
            and downstream.family == WEB_FAMILY
            and downstream.sharing is not Sharing.SERIAL
        )
