"""Listening: every kind of address, every reason why not, and no file descriptor left."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.ends import PATIENCE
from xproxy.model.address import Address
from xproxy.transport.listener import (
    ListenError,
    accept_forever,
    accept_waiting,
    address_of,
    open_listener,
)

ANY_PORT = Address("127.0.0.1", 0)


@contextlib.contextmanager
def listening(address: Address = ANY_PORT, **options: bool) -> Iterator[socket.socket]:
    with contextlib.closing(open_listener(address, backlog=64, **options)) as sock:
        yield sock


def connect(sock: socket.socket) -> socket.socket:
    client = socket.socket(sock.family, socket.SOCK_STREAM)
    client.connect(sock.getsockname())
    return client


def test_a_port_is_opened_and_named() -> None:
    with listening() as sock:
        address = address_of(sock)
        assert address.host == "127.0.0.1"
        assert address.port > 0
        with connect(sock) as client:
            assert address_of(client, peer=True) == address


def test_ipv6_is_listened_on_alone() -> None:
    with listening(Address("::1", 0)) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        with connect(sock) as client:
            assert str(address_of(client, peer=True)).startswith("[::1]:")


def test_both_wildcards_can_share_a_port() -> None:
    with listening(Address("0.0.0.0", 0)) as four:
        port = address_of(four).port
        with listening(Address("::", port)):
            pass


def test_an_address_in_use_is_named_in_the_error() -> None:
    with listening() as sock:
        address = address_of(sock)
        with pytest.raises(ListenError, match=f"{re.escape(str(address))}: Address already in use"):
            open_listener(address, backlog=1)


def test_a_port_may_be_shared_where_both_say_so() -> None:
    with listening(reuse_port=True) as sock, listening(address_of(sock), reuse_port=True):
        pass


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        open_listener(Address("192.0.2.1", 0), backlog=1)


def test_a_unix_path_is_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(Address("", 0, path)) as sock:
        assert address_of(sock) == Address("", 0, path)
        with connect(sock) as client:
            assert address_of(client, peer=True).is_unix
            assert address_of(client) == Address("", 0, "unnamed")


def test_a_stale_unix_path_is_taken_over(tmp_path: Path) -> None:
    address = Address("", 0, str(tmp_path / "s"))
    with listening(address):
        pass
    assert Path(address.path).exists()
    with listening(address) as sock:
        connect(sock).close()


def test_a_unix_path_with_a_listener_is_left_alone(tmp_path: Path) -> None:
    address = Address("", 0, str(tmp_path / "s"))
    with listening(address) as sock:
        with pytest.raises(ListenError, match="another process listens"):
            open_listener(address, backlog=1)
        connect(sock).close()


def test_a_unix_listener_too_busy_to_answer_is_left_alone(tmp_path: Path) -> None:
    address = Address("", 0, str(tmp_path / "s"))
    with (
        contextlib.closing(open_listener(address, backlog=0)) as sock,
        contextlib.ExitStack() as clients,
    ):
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(address.path)
            except BlockingIOError:
                break
        # A probe that waited would wait for ever.
        with pytest.raises(ListenError, match="another process listens"):
            open_listener(address, backlog=1)
        assert sock.fileno() >= 0


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ListenError, match="is no socket"):
        open_listener(Address("", 0, str(path)), backlog=1)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["missing/s", "file/s", "x" * 200])
def test_an_impossible_unix_path_is_a_listen_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match="cannot listen on unix:"):
        open_listener(Address("", 0, str(tmp_path / path)), backlog=1)


async def test_connections_are_handed_over_ready_for_use() -> None:
    taken: list[socket.socket] = []
    with listening() as sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", taken.append)
            clients = [connect(sock) for _ in range(3)]
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert len(taken) == 3
        for connection in taken:
            assert not connection.getblocking()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connect(sock).close()  # the socket stays open for whoever goes on
    for each in taken + clients:
        each.close()


async def test_a_flood_of_connections_lets_others_run() -> None:
    # The backlog holds more than are accepted in one turn.
    with contextlib.closing(open_listener(ANY_PORT, backlog=200)) as sock:
        clients = [connect(sock) for _ in range(150)]
        taken: list[socket.socket] = []
        seen: list[int] = []

        async def watch() -> None:
            while len(taken) < 150:
                seen.append(len(taken))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", taken.append)
            await watch()
            nursery.cancel_scope.cancel()
        assert any(0 < count < 150 for count in seen)
    for each in taken + clients:
        each.close()


class FailingSocket(socket.socket):
    """Fails to accept in the given ways first."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@contextlib.contextmanager
def failing(*failures: int) -> Iterator[FailingSocket]:
    with listening() as sock:
        flaky = FailingSocket(fileno=sock.detach())
    flaky.setblocking(False)
    flaky.failures = list(failures)
    with flaky:
        yield flaky


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_running_out_of_resources_is_survived_and_told_once(
    number: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[socket.socket] = []
    caplog.set_level(logging.INFO)
    with failing(number, number, number) as sock, connect(sock):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", taken.append)
            await trio.sleep(0.05)
            assert not taken  # it does not spin
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(taken) == 1
        taken[0].close()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "listener edge: cannot accept" in messages[0]
    assert "accepting again" in messages[1]


async def test_a_connection_that_was_gone_before_we_took_it_is_skipped() -> None:
    taken: list[socket.socket] = []
    with failing(errno.ECONNABORTED, errno.EPROTO) as sock, connect(sock):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", taken.append)
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert len(taken) == 1
    taken[0].close()


async def test_a_process_without_descriptors_serves_again_when_it_has_some() -> None:
    taken: list[socket.socket] = []
    with listening() as sock, connect(sock):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        hoard: list[int] = []
        async with trio.open_nursery() as nursery:
            highest = os.dup(0)
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        hoard.append(os.dup(0))
                nursery.start_soon(accept_forever, sock, "edge", taken.append)
                await wait_all_tasks_blocked(0.01)
                assert not taken
            finally:
                for fd in hoard:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with trio.fail_after(PATIENCE):
                while not taken:
                    await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    taken[0].close()


async def test_it_ends_when_the_socket_is_closed_under_it() -> None:
    with listening() as sock, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", socket.socket.close)
            await wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(sock)
            sock.close()


async def test_a_socket_closed_before_is_no_error() -> None:
    with listening() as sock:
        pass
    await accept_forever(sock, "edge", socket.socket.close)


async def test_it_ends_when_the_socket_is_closed_while_it_has_no_descriptor(
    autojump_clock: MockClock,
) -> None:
    with failing(*[errno.EMFILE] * 100) as sock, connect(sock), trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, "edge", socket.socket.close)
            await trio.sleep(0.25)
            sock.close()


def test_the_address_of_a_peer_that_is_gone_is_empty() -> None:
    with socket.socket() as sock:
        assert address_of(sock, peer=True) == Address("", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_connects_between_the_last_accept_and_the_close_is_refused_not_reset(host: str) -> None:
    taken: list[socket.socket] = []
    sock = open_listener(Address(host, 0), backlog=64)
    with sock, connect(sock), socket.socket(sock.family, socket.SOCK_STREAM) as late:
        accept_waiting(sock, taken.append)
        assert len(taken) == 1
        late.setblocking(False)
        assert late.connect_ex(sock.getsockname()) == errno.EINPROGRESS
        with pytest.raises(BlockingIOError):
            sock.accept()
        sock.close()
        # The kernel of the late one asks once more, a second later: that is the event awaited here.
        _, writable, _ = select.select([], [late], [], 10)
        assert writable
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        taken[0].close()
