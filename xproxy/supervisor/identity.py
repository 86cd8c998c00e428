"""What tells one supervisor from another: its interpreter and its code, by path, version and file."""

from __future__ import annotations

import os
import sys
from typing import Final

_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))


def identity() -> str:
    """Return a text that is another one for other code or another interpreter; empty where that cannot be told.

    Files are told apart by inode, size and time of change, and are not read: an installer that puts the same content
    there again makes another one of it, which costs an ``execve`` and nothing else. To be called at the start, when
    what is there is what runs.
    """
    try:
        names = sorted(name for name in os.listdir(_FOLDER) if name.endswith(".py"))
        paths = [sys.executable, os.path.join(os.path.dirname(_FOLDER), "__main__.py")]
        paths += [os.path.join(_FOLDER, name) for name in names]
        return "\n".join([sys.version, *map(_file, paths)])
    except OSError:
        return ""  # in an archive, for example


def _file(path: str) -> str:
    found = os.stat(path)
    return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
