"""Dialling: what is reached, what is said where it is not, and nothing kept open."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.ends import polling
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.transport.dial import dial, resolve
from xproxy.transport.listener import address_of, open_listener
from xproxy.transport.names import Found, Resolver, use_resolver
from xproxy.transport.poller import Poller

ANY_PORT = Address("127.0.0.1", 0)


def names(*answers: tuple[str, int]) -> None:
    """Let every name but ``nowhere.test`` have these addresses, without a network."""

    def lookup(host: str, port: int) -> Found:
        if host == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, *answer) for answer in answers]

    use_resolver(Resolver(lookup))


@contextlib.contextmanager
def listening(address: Address = ANY_PORT, backlog: int = 16) -> Iterator[socket.socket]:
    with contextlib.closing(open_listener(address, backlog=backlog)) as sock:
        yield sock


def closed_port() -> int:
    with listening() as sock:
        return address_of(sock).port


async def test_a_listener_is_reached() -> None:
    with listening() as sock:
        async with polling() as poller:
            stream = await dial(poller, address_of(sock), 5)
            theirs, where = sock.accept()
            assert (stream.local.host, stream.local.port) == where
            assert stream.peer == address_of(sock)
            assert stream.sock is not None
            assert stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not stream.pending
            theirs.send(b"hello")
            assert await stream.read() == b"hello"
            stream.close()
            theirs.close()


async def test_an_ipv6_listener_is_reached() -> None:
    with listening(Address("::1", 0)) as sock:
        async with polling() as poller:
            stream = await dial(poller, address_of(sock), 5)
            stream.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_server_that_speaks_at_once_is_heard(kind: str, tmp_path: Path) -> None:
    # Its words, and its end, may come in the very event that says that we are connected.
    address = Address("127.0.0.1", 0) if kind == "tcp" else Address("", 0, str(tmp_path / "s"))
    with listening(address) as sock:
        server = trio.SocketListener(trio.socket.from_stdlib_socket(sock.dup()))

        async def greet() -> None:
            while True:
                stream = await server.accept()
                await stream.send_all(b"220 ready")
                stream.socket.close()

        async with polling() as poller, trio.open_nursery() as nursery:
            nursery.start_soon(greet)
            for _ in range(40):  # which of the tasks runs first is left to chance
                stream = await dial(poller, address_of(sock), 5)
                assert await stream.read() == b"220 ready"
                assert await stream.read() == b""
                stream.close()
            nursery.cancel_scope.cancel()
        await server.aclose()


async def test_a_refusal_is_told_with_address_and_reason() -> None:
    async with polling() as poller:
        port = closed_port()
        with pytest.raises(ConnectFailed, match=rf"127\.0\.0\.1:{port}: Connection refused"):
            await dial(poller, Address("127.0.0.1", port), 5)


async def test_a_unix_listener_is_reached(tmp_path: Path) -> None:
    with listening(Address("", 0, str(tmp_path / "s"))) as sock:
        async with polling() as poller:
            stream = await dial(poller, address_of(sock), 5)
            theirs, _ = sock.accept()
            assert stream.write_now(b"hello") == 5
            assert theirs.recv(10) == b"hello"
            stream.close()
            theirs.close()


async def test_a_unix_path_without_a_listener_is_a_failure(tmp_path: Path) -> None:
    async with polling() as poller:
        with pytest.raises(ConnectFailed, match="No such file"):
            await dial(poller, Address("", 0, str(tmp_path / "s")), 5)
        with listening(Address("", 0, str(tmp_path / "s"))) as sock:
            address = address_of(sock)
        with pytest.raises(ConnectFailed, match="Connection refused"):
            await dial(poller, address, 5)


async def test_a_unix_listener_whose_queue_is_full_is_a_failure(tmp_path: Path) -> None:
    with listening(Address("", 0, str(tmp_path / "s")), backlog=0) as sock:
        async with polling() as poller:
            stream = await dial(poller, address_of(sock), 5)
            with pytest.raises(ConnectFailed, match="unavailable"):
                await dial(poller, address_of(sock), 5)
            assert stream.write_now(b"x") == 1
            stream.close()


@contextlib.contextmanager
def unresponsive() -> Iterator[Address]:
    """Give an address that answers neither yes nor no: the queue of its listener is full."""
    with listening(backlog=0) as sock, contextlib.ExitStack() as clients:
        for _ in range(8):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(sock.getsockname())
        yield address_of(sock)


async def test_no_answer_in_time_is_a_failure(autojump_clock: MockClock) -> None:
    with unresponsive() as address:
        poller = Poller()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            with pytest.raises(
                ConnectFailed, match=r"not connected within 2\.5 s \(connect_timeout\)"
            ):
                await dial(poller, address, 2.5)
            assert trio.current_time() == pytest.approx(2.5)
            assert len(poller) == 0
            nursery.cancel_scope.cancel()
        poller.close()


async def test_cancelling_leaves_nothing_open() -> None:
    with unresponsive() as address:
        async with polling() as poller, trio.open_nursery() as nursery:
            nursery.start_soon(dial, poller, address, 60)
            await wait_all_tasks_blocked()
            assert len(poller) == 1
            nursery.cancel_scope.cancel()


async def test_each_address_of_a_name_is_tried() -> None:
    with listening() as sock:
        names(("127.0.0.1", closed_port()), ("127.0.0.1", address_of(sock).port))
        async with polling() as poller:
            stream = await dial(poller, Address("db.test", 1), 5)
            assert str(stream.peer) == "db.test:1"
            stream.close()


async def test_the_last_refusal_is_told_where_all_addresses_of_a_name_refuse() -> None:
    names(("127.0.0.1", closed_port()))
    async with polling() as poller:
        with pytest.raises(ConnectFailed, match=r"db\.test:1: Connection refused"):
            await dial(poller, Address("db.test", 1), 5)


async def test_an_unknown_name_is_a_failure() -> None:
    names()
    async with polling() as poller:
        with pytest.raises(ConnectFailed, match=r"nowhere\.test:1: name not resolved: Name or"):
            await dial(poller, Address("nowhere.test", 1), 5)
        with pytest.raises(ConnectFailed, match="the name has no address"):
            await dial(poller, Address("empty.test", 1), 5)


async def test_numbers_are_not_looked_up() -> None:
    names()
    assert await resolve(Address("10.0.0.1", 5)) == [(socket.AF_INET, ("10.0.0.1", 5))]
    assert await resolve(Address("::1", 5)) == [(socket.AF_INET6, ("::1", 5))]
    assert await resolve(Address("", 0, "/s")) == [(socket.AF_UNIX, "/s")]


async def test_a_network_that_cannot_be_reached_is_a_failure() -> None:
    async with polling() as poller:
        with pytest.raises(ConnectFailed, match=r"255\.255\.255\.255:1: "):
            await dial(poller, Address("255.255.255.255", 1), 5)
