"""Health check by the service that gRPC has for it (grpc/doc/health-checking.md)."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.grpc.call import NATIVE
from xproxy.codecs.grpc.framing import MessageReader, NotMessages, frame
from xproxy.codecs.grpc.health import (
    CHECK,
    PATH,
    SERVICE,
    NotHealth,
    Serving,
    decode_response,
    encode_request,
)
from xproxy.codecs.outcome import call_status
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.upstream.health.api import CheckFailed, Passed, Probe

_MOST_BYTES: Final = 1024


@attrs.frozen(kw_only=True)
class GrpcHealth:
    """``grpc.health.v1.Health/Check``. Any other answer than ``SERVING`` makes an endpoint unhealthy at once."""

    service: str = ""
    """Which service is asked after; empty: the server as a whole."""
    authority: str = ""
    """Default: the endpoint's ``hostname``, else the cluster's name."""

    async def __call__(self, probe: Probe) -> Passed | None:
        """See HealthCheck."""
        plugin = probe.spoken.calls.get(NATIVE)
        if plugin is None:
            raise CheckFailed("no codec for it is installed")
        head = RequestHead(
            service=self.authority or probe.hostname or probe.cluster,
            method="POST",
            headers=Headers((("content-type", "application/grpc"), ("te", "trailers"))),
            extra=Target(path=PATH, rpc=Rpc(NATIVE, SERVICE, CHECK)),
        )
        conversation = await probe.converse(plugin)
        answer = await conversation.ask(head, frame(encode_request(self.service)))
        status = call_status(answer.head, answer.trailers)
        if status is not Status.OK:
            raise CheckFailed(f"answered {status.label}", at_once=True)
        reader = MessageReader(_MOST_BYTES)
        try:
            serving = [decode_response(message) for _, message in reader.feed(answer.data)]
        except (NotMessages, NotHealth) as exc:
            raise CheckFailed("what it answered is no HealthCheckResponse", at_once=True) from exc
        if serving != [Serving.SERVING]:
            said = serving[0].name if serving else "nothing"
            raise CheckFailed(f"answered {said}", at_once=True)
        return None
