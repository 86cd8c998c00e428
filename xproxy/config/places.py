"""Where things are to be opened: addresses that exclude one another, and what this machine does not let us have."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

import attrs

from xproxy.config.findings import Path, Problem, show
from xproxy.config.partial import parts
from xproxy.config.schema import AdminConfig, Config
from xproxy.model.address import Address
from xproxy.stream.lifetime import SupportsProbe

_LOOPBACK: Final = {"localhost": "127.0.0.1"}
_EVERY: Final = ("0.0.0.0", "::")  # noqa: S104  # compared with, and not listened on
"""All addresses of IPv4, and of IPv6."""


def clashes(config: Config) -> Iterator[Problem]:
    """Give the listeners, and the admin interface, that cannot have their address as another one has it."""
    wanted: list[tuple[Path, str, object]] = [
        (("listeners", index, "address"), f"listeners[{index}]", listener.address)
        for index, listener in parts(config.listeners)
    ]
    if isinstance(config.admin, AdminConfig):
        wanted.append((("admin", "address"), "admin", config.admin.address))
    taken: dict[tuple[bool, str | int], _Taken] = {}
    for at, name, address in wanted:
        if not isinstance(address, Address) or (not address.is_unix and address.port == 0):
            continue
        place = taken.setdefault((address.is_unix, address.path or address.port), _Taken())
        before = place.by(address, name)
        if before is not None:
            other, its_name = before
            same = "" if address == other else f", which listens on {other}"
            message = f"address {show(str(address))} is taken by {its_name} already{same}"
            yield Problem(message, at=at)


@attrs.define(eq=False)
class _Taken:
    """Who has one path, or one port. A look-up each, as thousands of listeners may share a port."""

    _first: dict[str | bool, tuple[int, Address, str]] = attrs.field(factory=dict)
    """The first one of each host; under ``_EVERY`` the first of all that have every address of a family, and under
    True and False the first of all in IPv6 and in IPv4."""
    _count: int = 0

    def by(self, address: Address, name: str) -> tuple[Address, str] | None:
        """Return the first one that excludes this address, and note that ``name`` wants it."""
        host = _LOOPBACK.get(address.host, address.host)
        of_six = ":" in host  # IPv6 sockets take no IPv4 connections here
        every = _EVERY[of_six]
        # Who wants every address has any other of the family against it; else its like, or who has them all.
        against = (of_six,) if host == every else (host, every)
        found = [self._first[key] for key in against if key in self._first]
        entry = (self._count, address, name)
        self._count += 1
        self._first.setdefault(host, entry)
        self._first.setdefault(of_six, entry)
        return min(found, key=lambda one: one[0])[1:] if found else None


def not_here(config: Config) -> Iterator[tuple[Path, str]]:
    """Give what cannot be opened on this machine, with its path. Changes nothing, and leaves nothing open."""
    for index, listener in enumerate(config.listeners):
        problem = _cannot_listen(listener.address)
        if problem:
            yield ("listeners", index, "address"), problem
        for place, filter_ in enumerate(listener.filters):
            yield from _probe(filter_.options, ("listeners", index, "filters", place))
    if config.admin is not None:
        problem = _cannot_listen(config.admin.address)
        if problem:
            yield ("admin", "address"), problem
    for table, routes in config.routes.items():
        for index, route in enumerate(routes):
            for place, filter_ in enumerate(route.filters):
                yield from _probe(filter_.options, ("routes", table, index, "filters", place))


def _probe(filter_: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(filter_, SupportsProbe):
        found = filter_.probe()
        if found is not None:
            key, message = found
            yield (*path, key), message


def _cannot_listen(address: Address) -> str:
    """Return why nobody can listen there; empty if it can be done, or somebody does already."""
    try:
        if address.is_unix:
            _look_at(FilePath(address.path))
            return ""
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # as listeners have it: no IPv4 address in an IPv6 one
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address.host, address.port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return ""
        return f"cannot listen on {address}: {exc.strerror or exc}"
    return ""


def _look_at(path: FilePath) -> None:
    folder = path.parent
    if path.exists() and not path.is_socket():
        raise FileExistsError(errno.EEXIST, "the file is there and is no socket")
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if len(os.fsencode(path)) > _LONGEST_UNIX_PATH:
        raise OSError(errno.ENAMETOOLONG, "AF_UNIX path too long")


_LONGEST_UNIX_PATH: Final = 107
"""Of ``sun_path`` (unix(7)), without its end."""
