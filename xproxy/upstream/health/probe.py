"""The connection of one health check to one endpoint: opened when the check asks for it, kept for the next one."""

from __future__ import annotations

from typing import Final, final

import attrs
import trio

from xproxy.codecs.api import CodecPlugin
from xproxy.config.schema import ClusterConfig
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import Limits
from xproxy.transport.dial import dial
from xproxy.transport.poller import Poller
from xproxy.transport.proxy_protocol import encode
from xproxy.transport.stream import ByteStream, write_all
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.api import Spoken
from xproxy.upstream.health.conversation import Conversation
from xproxy.upstream.origination import Origination

_NOWHERE: Final = Address("0.0.0.0", 0)  # noqa: S104  # nobody binds it: it stands for "no client"


@attrs.frozen(eq=False)
class Probing:
    """What all probes of a cluster have in common."""

    cluster: str
    config: ClusterConfig
    poller: Poller
    limits: Limits
    origination: Origination | None
    spoken: Spoken


@final
class EndpointProbe:
    """See Probe. One task uses it at a time."""

    def __init__(self, probing: Probing, endpoint: Endpoint) -> None:
        self._probing = probing
        self._endpoint = endpoint
        self._stream: ByteStream | None = None
        self._conversation: Conversation | None = None
        self._asked_at = 0
        # The port that the connection goes to: discovery may name another one for the same endpoint.

    @property
    def address(self) -> Address:
        """See Probe."""
        address, port = self._endpoint.address, self._endpoint.check_port
        return Address(address.host, port) if port and not address.is_unix else address

    @property
    def hostname(self) -> str:
        """See Probe."""
        return self._endpoint.hostname

    @property
    def cluster(self) -> str:
        """See Probe."""
        return self._probing.cluster

    @property
    def spoken(self) -> Spoken:
        """See Probe."""
        return self._probing.spoken

    async def connect(self) -> ByteStream:
        """See Probe."""
        stream = self._stream
        if (
            stream is None
            or self._conversation is not None
            or self._asked_at != self._endpoint.check_port
            or stream.hung_up
            or stream.pending
        ):
            self.close()
            stream = self._stream = await self._open(())
        return stream

    async def converse(self, plugin: CodecPlugin) -> Conversation:
        """See Probe."""
        found = self._conversation
        if (
            found is not None
            and found.plugin is plugin
            and self._asked_at == self._endpoint.check_port
            and found.usable
        ):
            return found
        self.close()
        self._stream = stream = await self._open(plugin.traits.alpn)
        self._conversation = Conversation(stream, plugin, self._probing.limits)
        return self._conversation

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        stream, self._stream = self._stream, None
        self._conversation = None
        if stream is not None:
            stream.close()

    async def _open(self, alpn: tuple[str, ...]) -> ByteStream:
        probing, address = self._probing, self.address
        self._asked_at = self._endpoint.check_port
        stream: ByteStream = await dial(probing.poller, address, probing.config.connect_timeout)
        version = probing.config.proxy_protocol
        if version is not None:
            try:
                # On nobody's behalf (PROXY protocol, section 2: LOCAL, for health checks).
                await write_all(stream, encode(version, Address("", 0), _NOWHERE))
            except trio.BrokenResourceError as exc:
                stream.close()
                raise ConnectFailed(f"{address} did not take the PROXY header") from exc
            except BaseException:
                stream.close()
                raise
        if probing.origination is None:
            return stream
        return await probing.origination.secure(stream, address, alpn)
