"""The admin interface: a listener of the proxy itself, whose requests end here."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.admin.pages import PAGES
from xproxy.model.errors import RouteNotFound, Unsupported
from xproxy.model.headers import Headers
from xproxy.model.message import ResponseHead, Target
from xproxy.proxy.runtime import Runtime
from xproxy.stream.exchange import Handler, Request, Response, local_response

_METHODS: Final = frozenset({"GET", "HEAD"})


class NoSuchPage(RouteNotFound):
    """The path is no page. Who may read the pages may know what there is."""

    public = ""


@attrs.frozen(eq=False)
class AdminHandler:
    """Answers a request by its path. Looks and never changes anything."""

    runtime: Runtime

    async def __call__(self, request: Request) -> Response:
        """See Handler. Raises NoSuchPage for an unknown page, Unsupported for what is no web request."""
        head = request.head
        if not isinstance(head.extra, Target) or head.method not in _METHODS:
            raise Unsupported("the admin interface answers GET and HEAD")
        path = head.path.partition("?")[0]
        show = PAGES.get(path)
        if show is None:
            raise NoSuchPage(f"no such page; there are {', '.join(PAGES)}")
        page = show(self.runtime)
        headers = Headers((("content-type", page.content_type), ("cache-control", "no-store")))
        return local_response(ResponseHead(status=page.status, headers=headers), page.body)


def admin_handler(runtime: Runtime) -> Handler:
    """Return the handler of the admin listener."""
    return AdminHandler(runtime)
