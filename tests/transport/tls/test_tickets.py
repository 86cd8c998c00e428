"""That tickets resume, across processes and renewals, is shown in ``test_server``; here what must not resume."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import msgpack
import pytest

from tests.alive import living
from tests.transport.tls.kit import (
    NAME,
    SslPeer,
    authority,
    certificate,
    client_context,
    connection,
    issued,
    served,
    server_tls,
)
from xproxy.codecs.tls.hello import ClientHello
from xproxy.transport.tls import tickets as module
from xproxy.transport.tls.contexts import ClientCertificates, TlsOptionsError
from xproxy.transport.tls.libssl import LibsslUnusable, TicketKey
from xproxy.transport.tls.server import ServerTls
from xproxy.transport.tls.tickets import (
    KEY_BYTES,
    MAX_EARLIER,
    MAX_KEY_FILES,
    MAX_NAMES,
    Tickets,
    who_may_resume,
)


def key_file(folder: Path, name: str = "key", size: int = KEY_BYTES) -> str:
    (folder / name).write_bytes(os.urandom(size))
    return str(folder / name)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_ticket_from_where_less_was_asked_is_no_good(tmp_path: Path, version: str) -> None:
    shared = Tickets(files=(key_file(tmp_path),))
    context = client_context()
    mine = issued("client.test")
    context.load_cert_chain(mine.cert, mine.key)
    session: ssl.SSLSession | None = None
    asks = ClientCertificates(mode="require", ca=str(authority().ca))
    seen = []
    for client in (ClientCertificates(), asks, asks):
        tls = server_tls(tickets=shared, client=client, max_version=version)
        async with connection() as pair:
            peer = SslPeer(pair.socket, context, server_name=NAME, session=session)
            stream = await served(pair, tls, peer)
            stream.write_now(b"x")
            await peer.receive_some()
            session = peer.object.session
            seen.append((stream.facts.resumed, stream.facts.peer_identity))
    assert seen == [(False, None), (False, "client.test"), (True, "client.test")]


async def resumed(tls: ServerTls, version: str, names: list[str]) -> list[bool]:
    """Connect under each name in turn with the session of the connection before; say which were resumed."""
    context = client_context()
    context.check_hostname = False
    session: ssl.SSLSession | None = None
    found = []
    for name in names:
        async with connection() as pair:
            peer = SslPeer(pair.socket, context, server_name=name, session=session)
            stream = await served(pair, tls, peer)
            stream.write_now(b"x")
            await peer.receive_some()
            session = peer.object.session
            found.append(stream.facts.resumed)
            assert stream.facts.sni == name
    assert session is not None
    assert session.has_ticket
    return found


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("shared", [True, False])
async def test_a_session_is_of_one_server_name(tmp_path: Path, version: str, shared: bool) -> None:
    """RFC 6066 §3. One certificate serves both names."""
    tickets = Tickets(files=(key_file(tmp_path),)) if shared else Tickets()
    tls = server_tls(tickets=tickets, max_version=version)
    names = [NAME, NAME, "other.test", "other.test", NAME]
    assert await resumed(tls, version, names) == [False, True, False, True, False]


def test_the_names_whose_keys_are_kept_are_bounded(tmp_path: Path) -> None:
    keys = Tickets().load(ClientCertificates())
    before = living(TicketKey)
    for number in range(3 * MAX_NAMES):
        keys.serve(f"{number}.test")
        first = keys.current()
        assert keys.current() is first
        if number % 100 == 99:
            assert 0 < living(TicketKey) - before <= MAX_NAMES


def test_mistakes_are_named(tmp_path: Path) -> None:
    none = ClientCertificates()
    with pytest.raises(TlsOptionsError, match="missing: No such file"):
        Tickets(files=(str(tmp_path / "missing"),)).load(none)
    for size in (0, 48, 81):
        with pytest.raises(TlsOptionsError, match="80 bytes exactly"):
            Tickets(files=(key_file(tmp_path, size=size),)).load(none)
    with pytest.raises(TlsOptionsError, match=f"{MAX_KEY_FILES + 1} files"):
        Tickets(files=(key_file(tmp_path),) * (MAX_KEY_FILES + 1)).load(none)
    with pytest.raises(TlsOptionsError, match=r"missing\.pem: No such file"):
        Tickets(files=(key_file(tmp_path),)).load(
            ClientCertificates(mode="require", ca="missing.pem")
        )


def test_where_openssl_cannot_be_reached_shared_keys_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable() -> None:
        raise LibsslUnusable("this Python's OpenSSL does not show RAND_bytes")

    monkeypatch.setattr(module, "libssl", unusable)
    with pytest.raises(TlsOptionsError, match=r"cannot be shared here: .* RAND_bytes"):
        server_tls(tickets=Tickets(files=(key_file(tmp_path),)))
    server_tls(tickets=Tickets(enabled=False))
    server_tls(tickets=Tickets())


def test_keys_that_do_not_resume_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Tickets(files=(key_file(tmp_path),)).load(ClientCertificates())
    keys.prove(certificate())
    monkeypatch.setattr(module, "_resumed", lambda _servers: False)
    with pytest.raises(TlsOptionsError, match=r"TLS 1\.2 does not resume"):
        keys.prove(certificate())


async def test_a_session_is_not_kept_for_a_client_without_tickets() -> None:
    context = client_context()
    context.options |= ssl.OP_NO_TICKET
    session: ssl.SSLSession | None = None
    tls = server_tls(max_version="1.2")
    for _ in range(2):
        async with connection() as pair:
            peer = SslPeer(pair.socket, context, server_name=NAME, session=session)
            stream = await served(pair, tls, peer)
            session = peer.object.session
            assert not stream.facts.resumed
            stream.close()  # with its goodbye: OpenSSL forgets what ends without
    assert tls.choose(ClientHello()).session_stats()["number"] == 0


async def test_without_tickets_nothing_is_resumed() -> None:
    context = client_context()
    session: ssl.SSLSession | None = None
    for version in ("1.2", "1.3"):
        tls = server_tls(tickets=Tickets(enabled=False), max_version=version)
        for _ in range(2):
            async with connection() as pair:
                peer = SslPeer(pair.socket, context, server_name=NAME, session=session)
                stream = await served(pair, tls, peer)
                stream.write_now(b"x")
                await peer.receive_some()
                session = peer.object.session
                assert not stream.facts.resumed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_ticket_of_the_process_before_is_good_here(version: str) -> None:
    context = client_context()
    session: ssl.SSLSession | None = None
    found = []
    first, second, third, stranger = (server_tls(max_version=version) for _ in range(4))
    second.ticket_keys.resume(first.ticket_keys.carry())
    third.ticket_keys.resume(second.ticket_keys.carry())
    assert first.who_may_resume == second.who_may_resume
    for tls in (first, second, second, third, first, third, stranger):
        async with connection() as pair:
            peer = SslPeer(pair.socket, context, server_name=NAME, session=session)
            stream = await served(pair, tls, peer)
            stream.write_now(b"x")
            await peer.receive_some()
            session = peer.object.session
            found.append(stream.facts.resumed)
    # Tickets of a newer process are not good in an older one, which serves on if the newer one fails: a whole
    # handshake then.
    assert found == [False, True, True, True, False, True, False]


def test_keys_of_so_many_processes_are_kept() -> None:
    keys = Tickets().load(ClientCertificates())
    for _ in range(3 * MAX_EARLIER):
        new = Tickets().load(ClientCertificates())
        new.resume(keys.carry())
        keys = new
    assert len(keys.current()) == MAX_EARLIER + 1


def test_keys_from_files_and_none_at_all_do_not_go_along(tmp_path: Path) -> None:
    own = Tickets().load(ClientCertificates())
    shared = Tickets(files=(key_file(tmp_path),)).load(ClientCertificates())
    for keys in (shared, Tickets(enabled=False).load(ClientCertificates())):
        assert keys.carry() == b""
        with pytest.raises(ValueError, match="tickets are off here, or have keys from files"):
            keys.resume(own.carry())
    assert len(shared.current()) == 1


@pytest.mark.parametrize(
    "secrets", [[b"x" * 79], [b"x" * 81], [7], b"x" * 80, [b"x" * 80] * (MAX_EARLIER + 2)]
)
def test_what_is_no_key_is_refused_and_not_shown(secrets: object) -> None:
    keys = Tickets().load(ClientCertificates())
    before = list(keys.current())
    data = msgpack.packb(["ticket keys", 1, {"secrets": secrets}])
    with pytest.raises(ValueError, match=r"snapshot of ticket keys|80 bytes") as raised:
        keys.resume(data)
    assert "xxx" not in str(raised.value)
    assert list(keys.current()) == before


def test_who_must_show_less_is_somebody_else() -> None:
    asks = ClientCertificates(mode="require", ca=str(authority().ca))
    asks_names = ClientCertificates(mode="require", ca=str(authority().ca), names=("a.test",))
    found = [who_may_resume(client) for client in (ClientCertificates(), asks, asks_names)]
    assert len(set(found)) == 3
