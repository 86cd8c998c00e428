"""The onion: filters round a handler, composed once when a snapshot is built, not for every request."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Sequence
from typing import Final

from xproxy.stream.exchange import Filter, Handler, Request, Response

_OURS: Final = "xproxy."
_names: Final[weakref.WeakKeyDictionary[type, str]] = weakref.WeakKeyDictionary()
# What configurations call a class of filters.


class FilterMisused(Exception):
    """A filter gave back something that is no response: a bug of that filter, which the message names."""


def name_filters(cls: type, name: str) -> None:
    """Let messages call the filters of this class by the name that they have in configurations."""
    _names[cls] = name


def filter_name(cls: type) -> str:
    """Return what to call filters of this class."""
    return _names.get(cls) or f"{cls.__module__}.{cls.__qualname__}"


def wrap(filter_: Filter, inner: Handler) -> Handler:
    """Return the handler that runs ``filter_`` round ``inner``."""
    if type(filter_).__module__.startswith(_OURS):
        # Returns the filter's own awaitable: no frame of ours stands between two filters.
        def handle(request: Request) -> Awaitable[Response]:
            return filter_(request, inner)

        return handle

    # Somebody else's: what it gives back is looked at here, where it is known whose it is. Further out it would be
    # another filter, or the connection, that stumbles over it. Costs 0.2 µs.
    async def checked(request: Request) -> Response:
        given = filter_(request, inner)
        if not inspect.isawaitable(given):
            raise _misused(filter_, given, "is it no `async def`?")
        response = await given
        if not isinstance(response, Response):
            raise _misused(filter_, response, "is a `return` missing?")
        return response

    return checked


def _misused(filter_: Filter, given: object, hint: str) -> FilterMisused:
    what = type(given).__name__
    if given is None:
        what = "None"
    elif inspect.iscoroutine(given):
        given.close()  # nobody will await it, and nobody is to be warned of that, too
        hint = "is an `await` missing?"
    return FilterMisused(
        f"filter {filter_name(type(filter_))} gave back {what} where a response belongs: {hint}"
    )


def compose(filters: Sequence[Filter], innermost: Handler) -> Handler:
    """Return ``innermost`` wrapped by all of them, the first one outermost."""
    handler = innermost
    for filter_ in reversed(filters):
        handler = wrap(filter_, handler)
    return handler
