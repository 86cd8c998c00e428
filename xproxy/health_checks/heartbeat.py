"""Health check by the heartbeat that a protocol has, as its codec knows it."""

from __future__ import annotations

from typing import ClassVar

import attrs

from xproxy.upstream.health.api import CheckFailed, Passed, Probe


@attrs.frozen(kw_only=True)
class Heartbeat:
    """The protocol's own heartbeat: any answer is a sign of life."""

    codec: str = ""
    """Whose. Default: the cluster's, where it has one."""

    needs_codec: ClassVar[bool] = True
    """Without one nothing can be asked."""

    async def __call__(self, probe: Probe) -> Passed | None:
        """See HealthCheck."""
        spoken = probe.spoken
        plugin = spoken.named(self.codec) if self.codec else spoken.own
        if plugin is None:
            raise CheckFailed("say in `codec` whose heartbeat it is")
        await (await probe.converse(plugin)).beat()
        return None
