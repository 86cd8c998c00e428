"""Uploads with PyPI's clients: ``python uploads.py httpx|aiohttp URL CA SIZE length|chunked PATH …``.

Each path gets SIZE bytes. Prints what was answered, bodies with their codes, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import sys

import aiohttp
import httpx

PATIENCE = 60.0
PIECE = 50_000


def with_httpx(
    url: str, context: ssl.SSLContext, paths: list[str], size: int, chunked: bool
) -> list[str]:
    found = []
    with httpx.Client(verify=context, timeout=PATIENCE, trust_env=False) as client:
        for path in paths:
            pieces = (bytes(PIECE) for _ in range(size // PIECE))
            response = client.post(f"{url}/{path}", content=pieces if chunked else bytes(size))
            found.append(f"{response.text}{response.status_code}")
    return found


async def with_aiohttp(
    url: str, context: ssl.SSLContext, paths: list[str], size: int, chunked: bool
) -> list[str]:
    found = []
    patience = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(url, timeout=patience) as session:
        for path in paths:
            body = io.BytesIO(bytes(size))
            async with session.post(
                f"/{path}", data=body, chunked=chunked or None, ssl=context
            ) as response:
                found.append(f"{await response.text()}{response.status}")
    return found


def main() -> None:
    """See the module."""
    name, url, ca, size, framing, *paths = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    every = (url, context, paths, int(size), framing == "chunked")
    found = with_httpx(*every) if name == "httpx" else asyncio.run(with_aiohttp(*every))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
