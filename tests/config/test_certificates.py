from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import Authority
from xproxy.config.certificates import (
    MAX_FILE_BYTES,
    certificates,
    mismatches,
    private_key,
    read,
    ticket_key,
    validity,
)
from xproxy.config.findings import Problem
from xproxy.config.partial import UNREAD


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    long = tmp_path / "long"
    with long.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(Problem, match="longer than"):
        read(long)
    with pytest.raises(Problem, match="Is a directory"):
        read(tmp_path)


def test_a_chain_and_its_key(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("a.test")
    assert len(certificates(issued.cert)) == 2
    assert list(mismatches(issued.cert, issued.key)) == []
    assert list(mismatches(issued.cert, UNREAD)) == [], "that is told elsewhere"


def test_another_ones_key_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = Authority(tmp_path).issue("a.test"), Authority(tmp_path).issue("b.test")
    (problem,) = mismatches(one.cert, two.key)
    assert problem.at == ("key",)
    assert problem.message == '"b.test.key" is not the key of the certificate "a.test.pem"'
    elsewhere = two.key.rename(tmp_path / "other" / "a.test.key")
    (problem,) = mismatches(one.cert, elsewhere)
    assert problem.message == f'"{elsewhere}" is not the key of the certificate "{one.cert}"'


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    encrypted = tmp_path / "key"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(Problem, match="is encrypted"):
        private_key(encrypted)


def test_ticket_keys_have_a_size(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(bytes(80))
    ticket_key(keys)
    keys.write_bytes(bytes(81))
    with pytest.raises(Problem, match="81 bytes, expected 80"):
        ticket_key(keys)


def test_validity(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("a.test")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    assert validity(issued.cert, now) == ""
    assert validity(issued.cert, now + day).startswith("the certificate has expired on ")
    assert validity(issued.cert, now - day).startswith("the certificate is not valid before ")
    assert validity(tmp_path / "none", now) == "", "which is found elsewhere"


def test_a_name_that_no_file_can_have_is_said() -> None:
    with pytest.raises(Problem, match="cannot be read: embedded null byte"):
        read(Path("a\0b"))
