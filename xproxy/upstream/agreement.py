"""Which protocol each endpoint has agreed to in TLS, where the cluster leaves the choice to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.model.errors import XproxyError
from xproxy.transport.stream import ByteStream
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named


class OtherProtocol(XproxyError):
    """The endpoint chose another protocol than the one asked for: take that connector. Never leaves the cluster."""


@attrs.define(eq=False)
class Agreement:
    """What one cluster offers, what its endpoints chose, and connections nobody has taken yet."""

    plugins: Sequence[CodecPlugin]
    """The best first, at least one."""
    _chosen: dict[Endpoint, CodecPlugin] = attrs.field(factory=dict)
    _ready: dict[Endpoint, ByteStream] = attrs.field(factory=dict)

    @property
    def alpn(self) -> tuple[str, ...]:
        """What is offered."""
        return tuple(name for plugin in self.plugins for name in plugin.traits.alpn)

    def of(self, endpoint: Endpoint) -> CodecPlugin:
        """Return what ``endpoint`` chose last; before it was asked, the best."""
        return self._chosen.get(endpoint, self.plugins[0])

    def chosen(self, endpoints: Sequence[Endpoint]) -> dict[str, str]:
        """Return the codec's name by the endpoint's (``membership.named``), of those that have chosen."""
        return {
            name: self._chosen[endpoint].name
            for name, endpoint in named(endpoints)
            if endpoint in self._chosen
        }

    def learn(self, endpoints: Sequence[Endpoint], chosen: Mapping[str, str]) -> None:
        """Take it that they chose so, as ``chosen`` returns it. What is not offered here is passed over."""
        plugins = {plugin.name: plugin for plugin in self.plugins}
        for name, endpoint in named(endpoints):
            plugin = plugins.get(chosen.get(name, ""))
            if plugin is not None:
                self._chosen[endpoint] = plugin

    def take(self, endpoint: Endpoint, asked: str) -> ByteStream | None:
        """Return a connection that waits. Raises OtherProtocol where it is known that ``asked`` is not the choice."""
        self._check(endpoint, asked)
        return self._ready.pop(endpoint, None)

    def _check(self, endpoint: Endpoint, asked: str) -> None:
        chosen = self.of(endpoint)
        if chosen.name != asked:
            raise OtherProtocol(f"{endpoint.address} chose {chosen.name} (ALPN)")

    def settle(
        self, endpoint: Endpoint, protocol: str | None, stream: ByteStream, asked: str
    ) -> None:
        """Note what a handshake agreed on. If it is not what was ``asked``: keep the stream and raise OtherProtocol.

        A server that agrees on nothing speaks what was there before ALPN was: the last one offered.
        """
        chosen = next((p for p in self.plugins if protocol in p.traits.alpn), self.plugins[-1])
        self._chosen[endpoint] = chosen
        if chosen.name != asked:
            self._keep(endpoint, stream)
        self._check(endpoint, asked)

    def _keep(self, endpoint: Endpoint, stream: ByteStream) -> None:
        before = self._ready.get(endpoint)
        if before is not None:
            before.close()
        self._ready[endpoint] = stream

    def forget(self, endpoint: Endpoint) -> None:
        """Keep nothing of ``endpoint``."""
        self._chosen.pop(endpoint, None)
        stream = self._ready.pop(endpoint, None)
        if stream is not None:
            stream.close()

    def close(self) -> None:
        """Close what nobody took."""
        while self._ready:
            self._ready.popitem()[1].close()
