"""Attempts for tests, as a cluster makes them."""

from __future__ import annotations

from xproxy.model.address import Address
from xproxy.stream.exchange import Request
from xproxy.stream.record import RetryPermits
from xproxy.upstream.attempt import Attempt, Attempts, Observer
from xproxy.upstream.endpoint import Endpoint

ENDPOINT = Address("192.0.2.9", 9080)


class Unlimited:
    """Permits for whoever asks."""

    def acquire(self, client: int) -> bool:
        return True

    def release(self, client: int) -> None:
        """Count nothing."""


def attempts_of(*observers: Observer, permits: RetryPermits | None = None) -> Attempts:
    """Return what the attempts of a cluster have in common. Their time is 0.0 outside of Trio."""
    attempts = Attempts("reviews-v1", permits or Unlimited(), observers[0] if observers else _pass)
    for observer in observers[1:]:
        attempts.observe(observer)
    attempts.now = float
    return attempts


def _pass(attempt: Attempt) -> None:
    """Learn nothing."""


def attempt_of(
    request: Request, endpoint: Endpoint | None = None, permits: RetryPermits | None = None
) -> Attempt:
    """Begin an attempt for ``request``, after those that it has."""
    endpoint = endpoint or Endpoint(ENDPOINT)
    record = request.record
    attempt = Attempt(attempts_of(permits=permits), endpoint, record.attempt)
    record.attempt, record.endpoint = attempt, endpoint.address
    return attempt
