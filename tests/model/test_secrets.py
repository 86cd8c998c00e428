from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import rounds
from xproxy.model.secrets import DEFAULT_SECRETS, REDACTED, SecretNames

SECRET = [
    *("password", "db_password", "API-Key", "apikey", "token", "client.secret", "Authorization"),
    *("proxy-authorization", "Cookie", "set-cookie", "x-auth-token", "X-AuthToken", "X_AUTH_TOKEN"),
    *("xAuthToken", "XAUTHTOKEN", "x-hmac", "X-Hub-Signature", "accessKey", "access_token"),
    *("id_token", "sessionid", "session-id", "JWT", "bearer", "key", "private_keys", "otp", "sid"),
    *(
        "X-Access-Token-V2",
        "x-shopify-hmac-sha256",
        "X-Signature-Ed25519",
        "id_token_hint",
        "PHPSESSID",
    ),
    *("client_assertion", "X-Goog-IAP-JWT-Assertion", "SAMLResponse", "passcode", "user-pass"),
    *("x-otp-code", "X-Authentication", "password2", "key1"),
]
PLAIN = [
    *("keyboard", "tokens_per_second", "monkey", "max_keys", "path", "author", "x-request-id"),
    *("user-agent", "content-type", "keepalive", "q", "donkey", "outside", "design", "robot"),
    *("bypass", "compass", "sha256", "v2", "hint", "x-b3-sampled", "tls_passthrough", "http2"),
]


@pytest.mark.parametrize("name", SECRET)
def test_secret_names(name: str) -> None:
    assert DEFAULT_SECRETS.hides(name)


@pytest.mark.parametrize("name", PLAIN)
def test_other_names(name: str) -> None:
    assert not DEFAULT_SECRETS.hides(name)


def test_the_list_can_be_changed() -> None:
    names = SecretNames(also=("X-Tenant",), never=("session_id",))
    assert names.hides("xTenant")
    assert names.hides("x_tenant")
    assert not names.hides("Session-ID")
    assert names.hides("x-auth-token")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a?token=x&b=c", "/a?token=[redacted]&b=c"),
        ("/a?b=c&access_token=x#f", "/a?b=c&access_token=[redacted]#f"),
        ("/a?%74oken=x", "/a?%74oken=[redacted]"),
        ("/a?token=", "/a?token="),
        ("https://u:p@a/x", "https://[redacted]@a/x"),
        ("redis://:p@a:1", "redis://[redacted]@a:1"),
        ("https://a/x@y", "https://a/x@y"),
        ("me@a.test", "me@a.test"),
        ("/token=x", "/token=x"),
        ("https://a/cb#access_token=x&b=c", "https://a/cb#access_token=[redacted]&b=c"),
        ("/a;jsessionid=x", "/a;jsessionid=[redacted]"),
        ("/a?next=/b?token=x&c=d", "/a?next=/b?token=[redacted]&c=d"),
        (
            "/a?password2=x&user[password][0]=y",
            "/a?password2=[redacted]&user[password][0]=[redacted]",
        ),
        ("/a?token=x?y=z&b=c", "/a?token=[redacted]&b=c"),
        ("https://u:p@ss@a/x", "https://[redacted]@a/x"),
        ("", ""),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert DEFAULT_SECRETS.clean(text) == shown


LONG = 64 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "/?=&" + "a" * LONG,
        "/?" + "a" * LONG + " =",
        "@ :// " + "a" * LONG,
        "://@" + "a.b+" * (LONG // 4),
        "@" + "://" * (LONG // 3),
        "/?" + "a=" * (LONG // 2),
        "/?" + "token=" * (LONG // 6),
        "/?a=" + "=" * LONG,
        "/?a=b" + ";" * LONG,
        "basic" + " " * LONG,
        "basic " * (LONG // 6),
        "/?" + "-a" * (LONG // 2) + "=b",
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_longer_than_its_length(text: str) -> None:
    # Where time grows with the square of the length, this is a minute and more; else a few hundredths of a second.
    bound = 5e7
    assert rounds(lambda: DEFAULT_SECRETS.clean_value(text), bound) < bound


def test_credentials_that_say_so() -> None:
    clean = DEFAULT_SECRETS.clean_value
    assert clean("Bearer abc.def") == f"Bearer {REDACTED}"
    assert clean("x basic dTpw y") == f"x basic {REDACTED} y"
    assert clean("a bearer") == "a bearer"


@given(
    st.sampled_from(["token", "password", "x-auth-token", "sig"]),
    st.text("abcdefgh0123456789._-~%", min_size=6, max_size=12).map("S3CRET{}".format),
    st.lists(
        st.tuples(st.sampled_from(["a", "q", "page"]), st.text("xyz", max_size=3)), max_size=3
    ),
    st.integers(0, 3),
)
def test_no_place_in_a_query_shows_a_secret(
    name: str, value: str, others: list[tuple[str, str]], place: int
) -> None:
    pairs = [f"{key}={text}" for key, text in others]
    pairs.insert(place, f"{name}={value}")
    shown = DEFAULT_SECRETS.clean("/path?" + "&".join(pairs))
    assert "S3CRET" not in shown
    assert all(f"{key}={text}" in shown for key, text in others)
    assert DEFAULT_SECRETS.clean(shown) == shown
