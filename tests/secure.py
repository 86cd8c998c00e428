"""TLS round ``tests.live``: listeners with certificates made on the spot, and clients by the standard library."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from tests.live import Live
from tests.transport.tls.kit import SslPeer, authority, issued
from xproxy.testing import Party

NAME: Final = "edge.test"


def pair(*names: str) -> str:
    """Return a certificate for ``names`` as it stands in a configuration."""
    found = issued(*(names or (NAME,)))
    return f"{{cert: {found.cert}, key: {found.key}}}"


def tls(*more: str, certificates: str | None = None) -> str:
    """Return a listener's ``tls:`` with a certificate for NAME, and further keys."""
    given = f"certificates: [{pair() if certificates is None else certificates}]"
    return f"    tls: {{{', '.join([given, *more])}}}\n"


def context(
    *alpn: str, client: str | None = None, low: str = "TLSv1_2", high: str = "TLSv1_3"
) -> ssl.SSLContext:
    """Return a client's context; ``client``: the name in a certificate of its own."""
    made = ssl.create_default_context(cafile=str(authority().ca))
    made.minimum_version, made.maximum_version = ssl.TLSVersion[low], ssl.TLSVersion[high]
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if client is not None:
        own = issued(client)
        made.load_cert_chain(own.cert, own.key)
    return made


def ca() -> Path:
    """Return the file of the authority behind all of these certificates."""
    return authority().ca


async def peer(
    live: Live,
    made: ssl.SSLContext | None = None,
    *,
    name: str | None = NAME,
    first: bytes = b"",
    listener: str = "edge",
    session: ssl.SSLSession | None = None,
) -> SslPeer:
    """Connect, send ``first`` in clear, and shake hands. Raises what the standard library raises."""
    transport = await live.connect(listener)
    if first:
        await transport.send_all(first)
    made = made or context()
    if name is None:
        made.check_hostname = False
    found = SslPeer(transport, made, server_name=name, session=session)
    await found.handshake()
    return found


async def party(live: Live, made: ssl.SSLContext | None = None, **options: str) -> Party:
    """Like ``peer``, for a script."""
    return Party("tls client", await peer(live, made, **options))  # type: ignore[arg-type]  # by keyword


def hello(name: str | None = NAME, *alpn: str) -> bytes:
    """Return a client's first flight."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = context(*alpn)
    made.check_hostname = name is not None
    session = made.wrap_bio(into, out, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()
