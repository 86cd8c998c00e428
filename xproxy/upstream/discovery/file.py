"""``type: file``: endpoints are those of another file, read again when it has changed (idea: Envoy's EDS by path)."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs
import trio
from attrs.validators import ge

from xproxy.config.findings import InvalidConfig
from xproxy.config.schema import EndpointConfig
from xproxy.model.limits import Duration, File
from xproxy.upstream.discovery.api import Asked
from xproxy.upstream.discovery.endpoint_file import read_endpoints

_Identity: TypeAlias = tuple[int, int, int, int]


@attrs.frozen(kw_only=True)
class EndpointFile:
    """Endpoints are those of a file, YAML or JSON: a list as ``endpoints`` of a cluster takes it.

    It is looked at again and again. Replace it by renaming another one over it: a file that is half written has
    half the endpoints, or is wrong. Of one that is wrong nothing is taken, and the endpoints stay.
    """

    path: File
    """At most 8 MiB."""
    interval: Duration = attrs.field(default=Duration(1.0), validator=ge(Duration(0.1)))
    """How often it is looked at: one look costs some microseconds."""

    def refusal(self, endpoints: Sequence[EndpointConfig]) -> str:
        """See SupportsEndpointsCheck."""
        return "the file has the endpoints: it takes no `endpoints` here" if endpoints else ""

    async def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        """See Discovery."""
        seen: _Identity | str = ""
        while True:
            found = _identity(self.path)
            if found != seen:
                # Looked at before it is read: what changes meanwhile is read again.
                seen = found
                try:
                    endpoints = await trio.to_thread.run_sync(
                        read_endpoints, self.path, abandon_on_cancel=True
                    )
                except InvalidConfig as exc:
                    asked.failed(str(exc.findings[0]))
                else:
                    yield endpoints
            await trio.sleep(self.interval)


def _identity(path: Path) -> _Identity | str:
    """Return what is another when the file is another, or has other content; or why there is none."""
    try:
        found = os.stat(path)
    except OSError as exc:
        return exc.strerror or str(exc)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
