"""Health check by a call, in any protocol that has a codec: also where it has no heartbeats."""

from __future__ import annotations

from typing import ClassVar

import attrs

from xproxy.health_checks.tcp import payload
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.upstream.health.api import CheckFailed, Passed, Probe

_KNOWN = tuple(status.label for status in Status)


@attrs.frozen(kw_only=True)
class Call:
    """A call. That a server does not know what is called is an answer, too."""

    method: str = attrs.field(validator=attrs.validators.min_len(1))
    """What is called."""
    service: str = ""
    """Of which service."""
    data: str = ""
    """The arguments as the protocol writes them: a text, or ``hex:`` and hexadecimal digits."""
    codec: str = ""
    """What is spoken. Default: the cluster's, where it has one."""
    statuses: tuple[str, ...] = attrs.field(
        default=("ok", "unimplemented", "not-found"),
        validator=attrs.validators.deep_iterable(attrs.validators.in_(_KNOWN)),
    )
    """Neutral statuses that are good; any other makes an endpoint unhealthy at once."""

    needs_codec: ClassVar[bool] = True
    """Without one nothing can be asked."""

    def __attrs_post_init__(self) -> None:
        payload(self.data)

    async def __call__(self, probe: Probe) -> Passed | None:
        """See HealthCheck."""
        spoken = probe.spoken
        plugin = spoken.named(self.codec) if self.codec else spoken.own
        if plugin is None:
            raise CheckFailed("say in `codec` what is spoken")
        conversation = await probe.converse(plugin)
        head = RequestHead(service=self.service, method=self.method)
        status = (await conversation.ask(head, payload(self.data))).head.status
        if status.label not in self.statuses:
            raise CheckFailed(f"answered {status.label}", at_once=True)
        return None
