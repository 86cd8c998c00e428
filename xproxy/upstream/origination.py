"""TLS towards a cluster's endpoints."""

from __future__ import annotations

import logging

import attrs
import trio

from xproxy.config.tls import ClusterTlsConfig
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.alerts import PLAINTEXT, TlsError
from xproxy.transport.tls.client import ClientTls, connect
from xproxy.transport.tls.contexts import TlsOptionsError
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.stream import TlsStream

_logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class Origination:
    """A cluster's TLS. Raises TlsOptionsError, at once, for files that cannot be used."""

    name: str
    """The cluster's."""
    config: ClusterTlsConfig
    _clients: dict[tuple[str, ...], ClientTls] = attrs.field(factory=dict, init=False)
    # By what they offer: a few, as each connector of the cluster offers one thing.
    _gate: HandshakeGate = attrs.field(factory=HandshakeGate, init=False)

    def __attrs_post_init__(self) -> None:
        self._client(())

    def _client(self, alpn: tuple[str, ...]) -> ClientTls:
        known = self._clients.get(alpn)
        if known is None:
            config = self.config
            known = self._clients[alpn] = ClientTls(
                ca=str(config.ca or ""),
                verify=config.verify,
                sni=config.sni or "",
                names=config.sans,
                cert=str(config.cert or ""),
                key=str(config.key or ""),
                alpn=alpn,
                min_version=config.min_version.removeprefix("TLSv"),
                max_version=config.max_version.removeprefix("TLSv"),
                gate=self._gate,
            )
        return known

    async def secure(
        self,
        stream: ByteStream,
        address: Address,
        alpn: tuple[str, ...],
        hostname: str | None = None,
    ) -> TlsStream:
        """Shake hands on a fresh connection to ``address``; the deadline is the caller's. Raises ConnectFailed.

        ``hostname``: the name of whoever is there, where its address is none. A stream that cannot be secured is
        closed.
        """
        try:
            return await connect(stream, self._client(alpn), hostname or _name_of(address))
        except (TlsError, TlsOptionsError) as exc:
            stream.close()
            remedy = f"; remove `tls` from cluster {self.name}?" if PLAINTEXT in str(exc) else ""
            raise ConnectFailed(f"{address}: TLS: {exc}{remedy}") from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            stream.close()
            raise ConnectFailed(f"{address}: TLS: {exc}") from exc
        except BaseException:
            stream.close()
            raise

    def refresh(self) -> None:
        """Take up files that have changed. What cannot be used is told once, and changes nothing."""
        for client in self._clients.values():
            try:
                if client.refresh():
                    _logger.info("cluster %s: certificates have been read again", self.name)
            except TlsOptionsError as exc:
                _logger.error("cluster %s: the old certificates stay in use: %s", self.name, exc)


def _name_of(address: Address) -> str | None:
    # A name is asked for; an address is only what the certificate must have.
    return address.host or None
