"""What goes along with an exchange to another process: the links that filters have put round its bodies and lease.

Once a response head is out and only bodies flow, no filter's call is under way any more; what is left of the filters
are links: wrapped bodies, and what is held until the response is closed. A link that can say what it is
(``SupportsNote``) is made anew in the other process, by the same filter there (``SupportsRelink``), and departs here.
One that cannot keeps its exchange where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias, runtime_checkable

import attrs

from xproxy.stream.chain import filter_name
from xproxy.stream.exchange import Request, Response

Plain: TypeAlias = object
"""What can be written down of a link: bytes, str, int, float, bool, None, and tuples of these."""

MAX_LINKS: Final = 256
"""In one chain; beyond it something goes round in a circle."""


class Stays(ValueError):
    """The exchange cannot go to another process, and why; ``for_now``: it may, soon."""

    def __init__(self, why: str, *, for_now: bool = False) -> None:
        super().__init__(why)
        self.for_now = for_now


@attrs.frozen
class Note:
    """What a link says of itself."""

    by: str
    """The name of the filter that makes one like it, as configurations call it."""
    fields: tuple[Plain, ...] = ()
    """Whatever that filter needs."""


def note_of(filter_: type, *fields: Plain) -> Note:
    """Return the note of a link that filters of this class make."""
    return Note(filter_name(filter_), fields)


@runtime_checkable
class SupportsNote(Protocol):
    """A link that may go to another process: a body round another one, or a lease that holds another one."""

    def note(self) -> tuple[object | None, Note | None]:
        """Return what is within, None if nothing is, and what to write down, None if nothing need be.

        Changes nothing. Raises Stays.
        """
        ...

    def depart(self) -> None:
        """It went: from now on nothing ends here, nothing is counted, closed or logged. Never blocks."""
        ...


@runtime_checkable
class SupportsRelink(Protocol):
    """A filter that makes links which can go to another process."""

    def relink(self, request: Request, response: Response, fields: tuple[Plain, ...]) -> None:
        """Put a link in its place that is as the one which said ``fields``. Raises ValueError for others.

        Called for its links of the request's body, from the outermost filter on, and then for those of the response,
        from the innermost filter on. It may be asked to do so for an exchange that does not come in the end.
        """
        ...


@attrs.frozen
class Chain:
    """One chain of links."""

    links: tuple[SupportsNote, ...]
    """From the outermost on."""
    notes: tuple[Note, ...]
    """From the innermost on."""
    innermost: object
    """The last link."""


def chain_of(link: object) -> Chain:
    """Follow a chain to its end. Raises Stays."""
    links: list[SupportsNote] = []
    notes: list[Note] = []
    within: object | None = link
    while within is not None:
        if not isinstance(within, SupportsNote):
            kind = type(within)
            raise Stays(f"{kind.__module__}.{kind.__qualname__} cannot say what it is")
        if len(links) == MAX_LINKS:
            raise Stays(f"more than {MAX_LINKS} links")
        link = within
        within, note = link.note()
        links.append(link)
        if note is not None:
            notes.append(note)
    return Chain(tuple(links), tuple(reversed(notes)), link)


def places(notes: Sequence[Note], names: Sequence[str]) -> list[int]:
    """Return where among ``names`` the maker of each link is: of each name the next one in turn.

    Both are in the order in which the links were made. Raises ValueError where a maker is lacking.
    """
    found: list[int] = []
    at = 0
    for note in notes:
        while at < len(names) and names[at] != note.by:
            at += 1
        if at == len(names):
            raise ValueError(f"there is no filter {note.by} that could go on with what it began")
        found.append(at)
        at += 1
    return found
