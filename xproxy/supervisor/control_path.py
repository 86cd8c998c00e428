"""Where the control socket of a proxy is, for the supervisor that makes it and for who looks for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

MOST_BYTES: Final = 107
"""Of the path of a Unix socket (unix(7))."""
_SUFFIX: Final = ".sock"


class NoPlace(Exception):
    """There is no place for a control socket; says why."""


def folders(environment: Mapping[str, str], user: int) -> Iterator[str]:
    """Give the folders in which control sockets may be, best first."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        yield f"{runtime}/xproxy"
    yield "/run/xproxy"
    temporary = environment.get("TMPDIR", "")
    yield f"{temporary if temporary.startswith('/') else '/tmp'}/xproxy-{user}"  # noqa: S108  # checked: `is_safe`


def is_safe(folder: str, user: int) -> bool:
    """Say whether a folder is this user's, and nobody else may put or find anything there."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077


def place_for(pid: int, environment: Mapping[str, str], user: int) -> str:
    """Return the path for a new control socket, its folder made if need be. Raises NoPlace."""
    tried = []
    for folder in folders(environment, user):
        path = f"{folder}/{pid}{_SUFFIX}"
        tried.append(folder)
        if len(os.fsencode(path)) > MOST_BYTES:
            continue
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        if is_safe(folder, user):
            return path
    raise NoPlace(f"none of {', '.join(tried)} is a folder that is ours alone")


def find(environment: Mapping[str, str], user: int) -> dict[int, str]:
    """Return the control sockets that there are, by pid; some may be of proxies that have died."""
    found: dict[int, str] = {}
    for folder in folders(environment, user):
        if not is_safe(folder, user):
            continue
        for name in os.listdir(folder):
            pid = name.removesuffix(_SUFFIX)
            if name.endswith(_SUFFIX) and pid.isdigit():
                found.setdefault(int(pid), f"{folder}/{name}")
    return found
