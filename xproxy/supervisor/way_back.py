"""A program that cannot go on as the supervisor executes the one before it, which left everything as it was.

Here is the least that is needed for it: what else there is may be what is wrong.
"""

from __future__ import annotations

import json
import os
from typing import Final

from xproxy.supervisor import memory, messages

_MOST_WHY: Final = 1000
"""Characters of the reason that is handed back."""


def go_back(reason: Exception) -> None:
    """Be the former program again, if this one is to go on for it. Returns where that is not so.

    Raises OSError, ValueError: there is no way back.
    """
    descriptor = os.environ.get(messages.RESUME, "")
    if not descriptor.isdigit() or messages.NOT_RESUMED in os.environ:
        return
    state = json.loads(memory.get(int(descriptor)))
    command = state["command"]
    environment = {
        name: value for name, value in state["environment"].items() if name not in command["absent"]
    }
    environment.update(command["environment"])
    why = f"{type(reason).__name__}: {reason}".replace("\0", "")[:_MOST_WHY]
    environment[messages.RESUME] = descriptor
    environment[messages.NOT_RESUMED] = why.encode("utf-8", "backslashreplace").decode()
    os.execve(command["executable"], command["arguments"], environment)  # noqa: S606  # no shell is wanted
