"""Listening sockets for workers: opened once, handed out as copies, closed when nobody wants them any more."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from xproxy.supervisor.messages import flag, number, text
from xproxy.supervisor.sockets import (
    CannotListen,
    Place,
    open_socket,
    place_of,
    remove,
    share_port,
)
from xproxy.supervisor.table import Key, Slot, Table, Worker

Sockets: TypeAlias = Table[socket.socket]


def key_of(message: Mapping[str, object]) -> Key:
    """Return which listener a message is about. Raises ValueError."""
    port = number(message, "port", 0)
    if port > 65535:
        raise ValueError(f"{port} is no port")
    place = Place(text(message, "host", ""), port, text(message, "path", ""))
    if not place.host and not place.path:
        raise ValueError("a listener is somewhere")
    return Key.of(text(message, "name"), place)


def give(table: Sockets, worker: Worker, message: Mapping[str, object]) -> list[socket.socket]:
    """Return the sockets of the listener that a worker asks for, opened now if need be.

    Raises CannotListen, and has opened none then; ValueError for a message that is none.
    """
    key = key_of(message)
    backlog = number(message, "backlog")
    single = flag(message, "single") or key.place.is_unix
    held = [(one, index) for one, index in table.slots if one == key]
    if not held:
        activated = table.activate(text(message, "name"), key.place)
        if activated is not None:
            table.slots[key, 0] = activated
            single = single or worker.count > 1
    # One that came with the start is the only one: whoever opened it may be another user, who alone may open more.
    single = single or any(table.slots[key, i].activated for one, i in table.slots if one == key)
    _open(table, key, worker.count, backlog, single=single, reuse_port=flag(message, "reuse_port"))
    return [slot.socket for slot in table.share(key, worker, single=single)]


def _open(
    table: Sockets, key: Key, count: int, backlog: int, *, single: bool, reuse_port: bool
) -> None:
    lacking = table.lacking(key, count, single=single)
    opened: dict[int, socket.socket] = {}
    several = count > 1 and not single
    place = key.place
    try:
        for (found, _), slot in table.slots.items():
            if found == key:
                place = place_of(slot.socket) if not key.place.is_unix else place
                if lacking and several:
                    share_port(slot.socket)
        for index in lacking:
            sock = open_socket(place, backlog=backlog, reuse_port=several or reuse_port)
            opened[index] = sock
            if not place.is_unix:
                place = place_of(sock)  # where any port would do, the others take the same one
    except (CannotListen, OSError) as exc:
        for sock in opened.values():
            sock.close()
        if isinstance(exc, CannotListen):
            raise
        raise CannotListen(f"cannot listen on {key.place}: {exc.strerror or exc}") from exc
    for index, sock in opened.items():
        table.slots[key, index] = Slot(sock)


def release(table: Sockets, worker: Worker, message: Mapping[str, object]) -> bool:
    """Take a listener from a worker; says whether its queue is now this worker's alone. Raises ValueError."""
    key = key_of(message)
    closing, last = table.release(key, worker)
    close(((key, slot) for slot in closing), table)
    return last


def close_unwanted(table: Sockets) -> None:
    """Close what no worker wants."""
    close(table.unwanted(), table)


def close_all(table: Sockets) -> None:
    """Close every socket: the workers' own copies are the last, and who waits in a queue is theirs to serve."""
    close(table.take_all(), table)
    for slot in {id(slot): slot for slot in table.waiting.values()}.values():
        slot.socket.close()
    table.waiting.clear()


def close(gone: Iterable[tuple[Key, Slot[socket.socket]]], table: Sockets) -> None:
    """Close sockets that are in the table no more, and remove the paths that nothing there listens on."""
    kept = {key.place.path for key, _ in table.slots}
    for key, slot in gone:
        if key.place.is_unix and not slot.activated and key.place.path not in kept:
            remove(key.place.path)
        slot.socket.close()


def take_given(table: Sockets, given: Iterable[tuple[str, int]]) -> list[str]:
    """Take the sockets that came with the start; returns what is wrong with those that cannot be used."""
    wrong = []
    for name, descriptor in given:
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as exc:
            wrong.append(f"descriptor {descriptor} ({name}) is no socket: {exc.strerror}")
            continue
        sock.set_inheritable(False)
        sock.setblocking(False)
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            wrong.append(f"descriptor {descriptor} ({name}) is no listening stream socket")
            sock.close()
            continue
        slot = Slot(sock, activated=True)
        table.waiting[str(place_of(sock))] = slot
        if name:
            table.waiting.setdefault(name, slot)
    return wrong
