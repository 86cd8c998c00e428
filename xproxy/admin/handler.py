"""The admin interface: a listener of the proxy itself, whose requests end here."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.admin.hosts import is_meant
from xproxy.admin.pages import PAGES
from xproxy.admin.whole import whole_page
from xproxy.model.errors import Forbidden, RouteNotFound, Unsupported
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
        """See Handler. Raises Forbidden, NoSuchPage, and Unsupported for what is no web request."""
        head = request.head
        snapshot = self.runtime.snapshot
        config = snapshot.config.admin if snapshot is not None else None
        names = config.hosts if config is not None else ()
        if not is_meant(head.service, request.connection.local, names):
            raise Forbidden("the admin interface has no such name (admin.hosts)")
        if not isinstance(head.extra, Target) or head.method not in _METHODS:
            raise Unsupported("the admin interface answers GET and HEAD")
        path = head.path.partition("?")[0]
        if path not in PAGES:
            raise NoSuchPage(f"no such page; there are {', '.join(PAGES)}")
        page = await whole_page(self.runtime, path)
        headers = Headers((("content-type", page.content_type), ("cache-control", "no-store")))
        return local_response(ResponseHead(status=page.status, headers=headers), page.body)


def admin_handler(runtime: Runtime) -> Handler:
    """Return the handler of the admin listener."""
    return AdminHandler(runtime)
