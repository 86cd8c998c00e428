"""Cookies of requests, as far as they are read here, and such as are set (RFC 6265)."""

from __future__ import annotations

from xproxy.config.balancing import CookieConfig
from xproxy.model.headers import Headers


def cookie_of(headers: Headers, name: str) -> str | None:
    """Return the value of a cookie, the first of this name, without quotes around it (RFC 6265 §5.4)."""
    for field in headers.get_all("cookie"):
        if name not in field:
            continue
        for pair in field.split(";"):
            found, mark, value = pair.partition("=")
            if mark and found.strip(" \t") == name:
                value = value.strip(" \t")
                quoted = len(value) >= 2 and value[0] == value[-1] == '"'
                return value[1:-1] if quoted else value
    return None


def set_cookie(cookie: CookieConfig, value: str) -> str:
    """Return the value of a Set-Cookie field; scripts do not see the cookie."""
    parts = [f'{cookie.name}="{value}"']
    if cookie.ttl:
        parts.append(f"Max-Age={max(1, round(cookie.ttl))}")
    if cookie.path:
        parts.append(f"Path={cookie.path}")
    return "; ".join([*parts, "HttpOnly"])
