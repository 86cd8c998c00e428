"""Invariant: for any bytes the installed codecs, asked together, give one outcome, the same for every split."""

from __future__ import annotations

from fuzz.targets import Seed, Target
from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.detect import Detected, Detection, Detector, NeedMore
from xproxy.registry import Registry
from xproxy.testing.subject import Broken

_STARTS = (
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    b"\r\n\r\x0a\x00\x0d\x0aQUIT\x0a",
    bytes.fromhex("01010001010000000a0100000bb800030000000000016162634e"),
    bytes.fromhex("0201010001010000000a0100"),
    bytes.fromhex("dabbc200000000000000000100000000"),
    bytes.fromhex("80010001000000057369676e7500000000"),
    bytes.fromhex("8221000470696e67"),
    bytes.fromhex("16030100c8010000c40303"),
    b"x\x01\x00\x00\x00\x00\x00\x01",
    b'[1,"ping",1,0,{}]',
    bytes(24),
)


def target(registry: Registry) -> Target:
    """Return the target over all codecs of ``registry``."""
    detector = Detector(registry.codecs())

    def check(data: bytes) -> None:
        final: Detection | None = None
        wanted = 0
        for length in range(len(data) + 1):
            prefix = data[:length]
            outcome = detector.decide(prefix)
            if outcome != detector.decide(bytes(bytearray(prefix))):
                raise Broken("two looks differ", prefix)
            if isinstance(detector.conclude(prefix), NeedMore):
                raise Broken("conclude does not conclude", prefix)
            if final is not None and outcome != final:
                raise Broken(f"{_show(final)} becomes {_show(outcome)}", prefix)
            if isinstance(outcome, NeedMore):
                if outcome.at_least <= length:
                    raise Broken(f"{length} bytes, and it asks for {outcome.at_least}", prefix)
                wanted = outcome.at_least
            else:
                if length < wanted:
                    raise Broken(f"asked for {wanted} bytes, and {length} decide", prefix)
                final = outcome
        for plugin in detector.candidates:
            if isinstance(final, Detected) and final.plugin is plugin:
                verdict = plugin.detect(data, NO_HINT)
                if verdict.kind not in {VerdictKind.YES, VerdictKind.MAYBE}:
                    raise Broken(f"{plugin.name} was chosen and says {verdict.kind.name}", data)

    return Target(
        name="detect",
        check=check,
        seeds=lambda: [Seed(f"start-{index}", start) for index, start in enumerate(_STARTS)],
    )


def _show(outcome: Detection) -> str:
    return outcome.plugin.name if isinstance(outcome, Detected) else type(outcome).__name__
