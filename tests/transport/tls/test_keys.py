"""Against published values, and against OpenSSL by every session that ``test_stream`` moves."""

from __future__ import annotations

import pytest

from xproxy.transport.tls.keys import (
    TLS12,
    TLS13,
    Suite,
    expand_label,
    hash_bytes,
    iv_bytes,
    key_block,
    next_secret,
    overhead_of,
    prf,
    read_key_log,
    suite_of,
    traffic_key,
)

AES128 = Suite(16, "sha256")


def test_the_traffic_keys_of_rfc_8448() -> None:
    # RFC 8448 §3: the server's application traffic secret and what is derived of it.
    secret = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
    key, iv = traffic_key(secret, AES128)
    assert key.hex() == "9f02283b6c9c07efc26bb9f2ac92e356"
    assert iv.hex() == "cf782b88dd83549aadf1e984"


def test_a_longer_secret_for_a_longer_hash() -> None:
    suite = Suite(32, "sha384")
    assert hash_bytes(suite) == 48
    secret = next_secret(b"s" * 48, suite)
    assert len(secret) == 48
    assert secret == expand_label(b"s" * 48, b"traffic upd", 48, "sha384")


def test_the_pseudo_random_function_of_tls_12() -> None:
    # The vector for SHA-256 posted to the TLS working group's list in 2007, widely used since.
    found = prf(
        bytes.fromhex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c"),
        100,
        "sha256",
    )
    assert found.hex().startswith(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a"
    )
    assert len(found) == 100


def test_a_key_block_gives_each_side_its_own() -> None:
    for suite in (AES128, Suite(32, "sha256", chacha=True)):
        client, server = key_block(b"m" * 48, b"c" * 32, b"s" * 32, suite)
        assert len({*client, *server}) == 4
        assert len(client[0]) == suite.key_bytes
        assert len(server[1]) == iv_bytes(suite)


@pytest.mark.parametrize(
    ("version", "cipher", "key_bytes", "overhead"),
    [
        (TLS13, "TLS_AES_128_GCM_SHA256", 16, 22),
        (TLS13, "TLS_AES_256_GCM_SHA384", 32, 22),
        (TLS13, "TLS_CHACHA20_POLY1305_SHA256", 32, 22),
        (TLS12, "ECDHE-RSA-AES128-GCM-SHA256", 16, 29),
        (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384", 32, 29),
        (TLS12, "ECDHE-RSA-CHACHA20-POLY1305", 32, 21),
    ],
)
def test_suites_by_name(version: str, cipher: str, key_bytes: int, overhead: int) -> None:
    suite = suite_of(version, cipher)
    assert suite is not None
    assert suite.key_bytes == key_bytes
    assert overhead_of(version, suite) == overhead


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (TLS12, "ECDHE-RSA-AES128-SHA256"),
        (TLS13, "TLS_AES_128_CCM_SHA256"),
        ("TLSv1.1", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("", ""),
    ],
)
def test_suites_that_cannot_be_continued(version: str, cipher: str) -> None:
    assert suite_of(version, cipher) is None
    assert overhead_of(version, None) == -1


def test_key_log_lines() -> None:
    text = b"# a comment\nCLIENT_RANDOM 00ff 1234\nbroken\nSERVER_TRAFFIC_SECRET_0 zz 00\nX 00 56\n"
    assert read_key_log(text) == {"CLIENT_RANDOM": (b"\0\xff", b"\x12\x34")}
