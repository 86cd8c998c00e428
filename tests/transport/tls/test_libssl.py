from __future__ import annotations

import os
import ssl
import sys
import types

import pytest

from tests.transport.tls.kit import certificate
from xproxy.transport.tls import libssl as module
from xproxy.transport.tls.libssl import Context, LibsslUnusable, TicketKey, libssl


def test_the_address_is_the_contexts_own() -> None:
    one, other = Context(ssl.PROTOCOL_TLS_SERVER), Context(ssl.PROTOCOL_TLS_CLIENT)
    assert libssl().address_of(one) != libssl().address_of(other)
    assert libssl() is libssl()


def test_options_that_differ_are_noticed() -> None:
    class Other(Context):
        @property
        def options(self) -> ssl.Options:  # type: ignore[override]  # it pretends
            return ssl.Options(0)

    with pytest.raises(LibsslUnusable, match="other options than itself"):
        libssl().address_of(Other(ssl.PROTOCOL_TLS_SERVER))


def test_a_library_without_the_functions_is_refused() -> None:
    class Empty:
        def __getitem__(self, name: str) -> object:
            raise AttributeError(name)

    with pytest.raises(LibsslUnusable, match="does not show SSL_CTX_get_options"):
        module.Libssl(Empty())  # type: ignore[arg-type]  # as a statically linked one would be


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = types.SimpleNamespace(implementation=types.SimpleNamespace(name="pypy"))
    monkeypatch.setattr(module, "sys", pretended)
    with pytest.raises(LibsslUnusable, match="only CPython"):
        libssl.__wrapped__()
    assert sys.implementation.name == "cpython"


def test_what_openssl_calls_lives_as_long_as_its_context() -> None:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate().cert, certificate().key)
    assert context.kept_alive == ()
    key = TicketKey(os.urandom(80))
    libssl().use_ticket_keys(context, lambda: {key.name: key})
    libssl().use_key_log(context, print)
    assert len(context.kept_alive) == 2


def test_a_key_file_has_three_parts() -> None:
    key = TicketKey(bytes(range(80)))
    assert (key.name, key.mac, key.cipher) == (
        bytes(range(16)),
        bytes(range(16, 48)),
        bytes(range(48, 80)),
    )
