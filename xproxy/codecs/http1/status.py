"""HTTP status codes ⇄ the neutral status. They are HTTP's, the same in every version: ``http_status`` has them."""

from __future__ import annotations

from xproxy.codecs.http_status import code_of, local_code, retry_after, status_of

__all__ = ["code_of", "local_code", "retry_after", "status_of"]
