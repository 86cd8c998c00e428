"""Version 4 of a codec's state, which could hold requests that wait for a stream. It is read until nothing writes it.

Rule of this file: a state without such requests says all that version 5 does. One with them is refused: they would
have to be sent by whoever takes it up, who knows nothing of them. Those that wait are not in the codec any more.
"""

from __future__ import annotations

from xproxy.codecs.state_kinds import FLAG


def without_waiting(found: object) -> dict[str, object]:
    """Return the map of version 5 that says what this one of version 4 says. Raises ValueError."""
    if type(found) is not dict:
        raise ValueError("is no map")
    kept = dict(found)
    waiting = kept.pop("waiting", {})
    if waiting != {}:
        raise ValueError("has requests that wait for a stream: these cannot be taken up")
    # Whoever waited for the news that it may send its body asks anew when it takes the connection up.
    FLAG.read(kept.pop("unheard", False))
    return kept
