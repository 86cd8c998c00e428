"""Whether the other process could go on with what this one writes of a connection, by what both have said first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xproxy.migration.messages import Hello


def unreadable(names: Iterable[str], ours: Hello, theirs: Hello | None) -> str:
    """Return why the other side cannot read one of these states; empty: it can, or does not say.

    ``names``: of codecs, or ``tls``. ``theirs`` None: it has said nothing yet.
    """
    if theirs is None or not theirs.states:
        return ""
    writes = {one.name: one.writes for one in ours.states}
    reads = {one.name: one.reads for one in theirs.states}
    for name in names:
        version, known = writes.get(name, 0), reads.get(name)
        if known is None:
            return f"the new one has no codec {name}"
        if version and known and version not in known:
            return f"{name} state {version} is not read by the new one (reads {_listed(known)})"
    return ""


def _listed(versions: Sequence[int]) -> str:
    first, *_, last = [versions[0], *versions]
    if len(versions) > 1 and tuple(versions) == tuple(range(first, last + 1)):
        return f"{first}-{last}"
    return ", ".join(map(str, versions))
