"""A listener's TLS: whose is ended here and with what, whose is passed through; and the watch over its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs
import trio

from xproxy.codecs.api import CodecPlugin
from xproxy.config.tls import ListenerTlsConfig
from xproxy.stream.carrying import CarriedAs
from xproxy.transport.tls.contexts import Certificate, ClientCertificates, TlsOptionsError
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.server import ServerTls
from xproxy.transport.tls.tickets import Tickets

_logger = logging.getLogger(__name__)


@attrs.define(eq=False)
class ListenerTls:
    """Lives as long as snapshots use it: where a reload changes nothing of it, it goes on, tickets and all.

    Raises TlsOptionsError for files that cannot be used.
    """

    name: str
    """The listener's."""
    config: ListenerTlsConfig
    alpn: tuple[str, ...]
    """What our codecs can be asked for, the best first."""
    server: ServerTls | None = attrs.field(init=False)
    """None: nobody's TLS is ended here."""

    def __attrs_post_init__(self) -> None:
        self.server = self._server() if self.config.certificates else None

    def _server(self) -> ServerTls:
        config = self.config
        clients = config.client_certificates
        return ServerTls(
            [Certificate(str(one.cert), str(one.key)) for one in config.certificates],
            alpn=self.alpn,
            client=ClientCertificates()
            if clients is None
            else ClientCertificates(mode=clients.mode, ca=str(clients.ca), names=clients.sans),
            min_version=config.min_version.removeprefix("TLSv"),
            max_version=config.max_version.removeprefix("TLSv"),
            unknown_name=config.unknown_names == "default",
            tickets=Tickets(
                enabled=config.tickets, files=tuple(str(path) for path in config.ticket_keys)
            ),
            gate=HandshakeGate(max_concurrent=config.max_handshakes),
        )

    # ---- to the process that takes over

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry: what goes along are the keys of session tickets."""
        rules = self.server.who_may_resume if self.server is not None else b""
        return CarriedAs(kind="ticket keys", name=self.name, version=1, settings=rules)

    def carry(self) -> bytes:
        """See SupportsCarry."""
        return self.server.ticket_keys.carry() if self.server is not None else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        if self.server is None:
            raise ValueError("nobody's TLS is ended here")
        self.server.ticket_keys.resume(data)

    # ---- at work

    def passes(self, server_name: str | None) -> bool:
        """Say whether a client that asks for this name (lower case) is passed through."""
        return any(_matches(pattern, server_name) for pattern in self.config.passthrough)

    def refresh(self) -> None:
        """Take up files that have changed. What cannot be used is told once, and changes nothing."""
        try:
            if self.server is not None and self.server.refresh():
                _logger.info("listener %s: certificates have been read again", self.name)
        except TlsOptionsError as exc:
            _logger.error("listener %s: the old certificates stay in use: %s", self.name, exc)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the files now and then, until cancelled."""
        task_status.started()
        interval = self.config.reload_interval
        if not interval:
            await trio.sleep_forever()
        while True:
            await trio.sleep(interval)
            self.refresh()


def _matches(pattern: str, name: str | None) -> bool:
    if pattern == "*":
        return True
    if name is None:
        return False
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern


def alpn_of(plugins: Sequence[CodecPlugin]) -> dict[str, CodecPlugin]:
    """Return what may be agreed on, and who speaks it then: by rank, the better one where two claim the same."""
    found: dict[str, CodecPlugin] = {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.traits.rank):
        for protocol in plugin.traits.alpn:
            found.setdefault(protocol, plugin)
    return found
