"""What is said on one side arrives on the other."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from xproxy.codecs.api import (
    Codec,
    RestoringPlugin,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsRelay,
    SupportsSnapshot,
    supports,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Origin, Reset, Trailers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing
from xproxy.testing.pair import Pair, Side
from xproxy.testing.reading import FIELD, exchanges
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import body_in, carried, ends, greet


def round_trip(subject: Subject) -> None:
    """Requests and responses, whole and in pieces, arrive as they were sent."""
    for name, conversation in exchanges(subject):
        pair = Pair(subject)
        if subject.sharing is Sharing.SERIAL:
            for request, response in conversation:
                _say(subject, pair, pair.client, [request], name)
                _say(subject, pair, pair.server, [response], name)
        else:
            _say(subject, pair, pair.client, [request for request, _ in conversation], name)
            answers = [response for _, response in reversed(conversation) if response]
            _say(subject, pair, pair.server, answers, name)


def _say(
    subject: Subject, pair: Pair, side: Side, messages: list[tuple[Frame, ...]], name: str
) -> None:
    """Let ``side`` send ``messages``, and compare what arrives."""
    mark = len(side.sent)
    for message in messages:
        pair.send(side, *message)
    wire = bytes(side.sent[mark:])
    got = pair.peer_of(side).take()
    if subject.traits.headless and side is pair.client:
        got = [Head(1, subject.request), *[f for f in got if not isinstance(f, Head)]]
    for message in messages:
        head = message[0]
        assert isinstance(head, Head)
        where = f"{name}: the {side.role.value}'s message on stream {head.stream_id}"
        mine = [f for f in got if _stream_of(f) == head.stream_id]
        _compare(subject, message, mine, where, wire)


def _stream_of(frame: Frame) -> int | None:
    return frame.stream_id if isinstance(frame, Head | Data | Trailers | Reset) else None


def _compare(
    subject: Subject, sent: tuple[Frame, ...], got: list[Frame], where: str, wire: bytes
) -> None:
    head, received = sent[0], [f for f in got if isinstance(f, Head) and not f.interim]
    assert isinstance(head, Head)
    if len(received) != 1:
        raise Broken(f"{where} arrives with {len(received)} heads", wire)
    if not subject.traits.headless:
        _compare_heads(head.message, received[0].message, where, wire)
    expected, arrived = body_in(sent, head.stream_id), body_in(got, head.stream_id)
    if expected != arrived:
        raise Broken(f"{where}: the body {expected[:60]!r} arrives as {arrived[:60]!r}", wire)
    ended = [index for index, frame in enumerate(got) if ends(frame)]
    if ended != [len(got) - 1]:
        raise Broken(f"{where} ends {len(ended)} times, or not with its last frame", wire)
    if isinstance(sent[-1], Trailers):
        last = got[-1]
        if not isinstance(last, Trailers) or not carried(sent[-1].headers, last.headers):
            raise Broken(f"{where}: traits promise trailers, and they are lost", wire)
    for frame in got:
        if isinstance(frame, Data) and not frame.data and not frame.end:
            raise Broken(f"{where}: an empty Data that ends nothing", wire)


def _compare_heads(
    sent: RequestHead | ResponseHead, got: RequestHead | ResponseHead, where: str, wire: bytes
) -> None:
    match sent, got:
        case RequestHead(), RequestHead():
            for field in ("service", "method", "oneway"):
                if getattr(sent, field) != getattr(got, field):
                    raise Broken(
                        f"{where}: {field} {getattr(sent, field)!r} arrives as {getattr(got, field)!r}",
                        wire,
                    )
        case ResponseHead(), ResponseHead():
            if (sent.status, sent.native_status) != (got.status, got.native_status):
                raise Broken(
                    f"{where}: {sent.status.name}/{sent.native_status} arrives as"
                    f" {got.status.name}/{got.native_status}",
                    wire,
                )
        case _:
            raise Broken(f"{where} arrives as a {type(got).__name__}", wire)
    if not carried(sent.headers, got.headers):
        raise Broken(f"{where}: fields {sent.headers!r} arrive as {got.headers!r}", wire)


def _answered_with(subject: Subject, head: ResponseHead, data: bytes = b"") -> Head:
    """Return the response head that a client reads when ``head`` is the answer."""
    pair = Pair(subject)
    pair.send(pair.client, Head(1, subject.request, b"", end=True))
    pair.send(pair.server, Head(1, head, data, end=True))
    heads = [f for f in pair.client.take() if isinstance(f, Head)]
    if len(heads) != 1:
        raise Broken(f"{head!r} arrives as {len(heads)} heads", bytes(pair.server.sent))
    return heads[0]


def statuses(subject: Subject) -> None:
    """Every status can be answered with, locally, and success stays success and failure failure."""
    if subject.traits.headless:
        return
    for status in Status:
        for extra in (None, *(Local(detail="a detail", reason=r, retry_after=1) for r in Reason)):
            got = _answered_with(subject, ResponseHead(status=status, extra=extra)).message
            assert isinstance(got, ResponseHead)
            if got.native_status is None:
                raise Broken(f"{status.name} arrives without a native status")
            if (got.status is Status.OK) != (status is Status.OK):
                raise Broken(f"the local reply {status.name} arrives as {got.status.name}")


def serial_order(subject: Subject) -> None:
    """A serial codec holds a request back until the one before is answered; others never do."""
    if subject.traits.headless:
        return
    pair, clients = Pair(subject), [Pair(subject) for _ in range(2)]
    if subject.sharing is not Sharing.SERIAL:
        clients = [clients[0]] * 2
    ids = subject.ids(2)
    wire = b""
    for client, id_ in zip(clients, ids, strict=True):
        wire += client.client.codec.send(Head(id_, subject.request, b"x", end=True))
    pair.deliver(pair.client, wire)
    at_once = sum(isinstance(f, Head) for f in pair.server.take())
    if subject.sharing is not Sharing.SERIAL:
        if at_once != 2:
            raise Broken(f"two requests in one read give {at_once} heads", wire)
        return
    if at_once != 1:
        raise Broken(f"two pipelined requests give {at_once} heads before an answer, not 1", wire)
    pair.server.codec.send(Head(1, subject.response, b"", end=True))
    later = sum(isinstance(f, Head) for f in pair.server.codec.receive(b""))
    if later != 1:
        raise Broken(f'after the answer receive(b"") gives {later} heads, not the one held', wire)


def interim(subject: Subject) -> None:
    """A codec that promises interim responses carries them before the final one."""
    if not subject.traits.interim:
        return
    pair = Pair(subject)
    pair.send(pair.client, Head(1, subject.request, b"", end=True))
    early = ResponseHead(status=Status.OK, native_status=103, headers=FIELD)
    pair.send(pair.server, Head(1, early, interim=True))
    pair.send(pair.server, Head(1, subject.response, b"x", end=True))
    heads = [f for f in pair.client.take() if isinstance(f, Head)]
    if [head.interim for head in heads] != [True, False]:
        raise Broken("traits promise interim responses, and they are lost", bytes(pair.server.sent))


def heartbeat(subject: Subject) -> None:
    """A heartbeat is answered by the codec itself, and nobody else sees it."""
    pair = Pair(subject)
    for side in (pair.client, pair.server):
        if not isinstance(side.codec, SupportsHeartbeat):
            continue
        peer = pair.peer_of(side)
        mark = len(peer.sent)
        ask = side.codec.heartbeat()
        pair.deliver(side, ask)
        if len(peer.sent) == mark:
            raise Broken(f"the {peer.role.value} does not answer a heartbeat", ask)
        if seen := side.take() + peer.take():
            raise Broken(f"a heartbeat shows as {seen[0]!r}", ask)


def goaway(subject: Subject) -> None:
    """A goodbye reaches the client as GoAway, at once or with the response; the answers owed still come."""
    pair = Pair(subject)
    if not isinstance(pair.server.codec, SupportsGoAway) or subject.traits.headless:
        return
    pair.send(pair.client, Head(1, subject.request, b"", end=True))
    goodbye = pair.server.codec.goaway()
    pair.deliver(pair.server, goodbye)
    pair.send(pair.server, Head(1, subject.response, b"", end=True))
    got = pair.client.take()
    # Not every peer understands a goodbye: a codec may have nothing to say. A serial one can always say it.
    said = goodbye or subject.sharing is Sharing.SERIAL
    if said and not any(isinstance(f, GoAway) for f in got):
        raise Broken("goaway() does not reach the client", bytes(pair.server.sent))
    if not any(isinstance(f, Head) for f in got):
        raise Broken("after goaway() the answer owed is lost", bytes(pair.server.sent))


def relayed(subject: Subject) -> None:
    """Answers that another codec of the connection writes leave as if the one that reads it had been asked to."""
    plugin, codec = subject.plugin, subject.open(Role.SERVER)
    writer: object = codec
    if not supports(writer, SupportsRelay) or not isinstance(plugin, RestoringPlugin):
        return
    client, written = subject.open(Role.CLIENT), _written_down(codec)
    ids = subject.ids(4)
    asked = b"".join(client.send(Head(id_, subject.request, b"", end=True)) for id_ in ids)
    codec.receive(greet(client, codec) + asked)
    state = written()
    here, there = (plugin.restore(state, Role.SERVER, DEFAULT_LIMITS) for _ in range(2))
    if not supports(here, SupportsRelay):
        raise Broken("what restore() makes cannot answer for others", state)
    answers: list[Head | Reset] = [
        Head(id_, subject.response, b"body %d" % id_, end=True) for id_ in reversed(ids[1:])
    ]
    for answer in (*answers, Reset(ids[0], Status.UNAVAILABLE)):
        try:
            raw = writer.answer(answer)
            wanted = there.send(answer)
        except LocalProtocolError:
            continue  # not every protocol has a word for a reset
        if written() != state:
            raise Broken("answer() changes the codec", raw)
        got = here.answered(answer.stream_id, raw)
        if got != wanted:
            raise Broken(f"an answer leaves as {got!r} where it is sent as {wanted!r}", raw)
        if here.answered(answer.stream_id, raw):
            raise Broken("a request can be answered twice", raw)


def _written_down(codec: Codec) -> Callable[[], bytes]:
    if not isinstance(codec, SupportsSnapshot):
        raise Broken("a codec that answers for others must have a snapshot()")
    return codec.snapshot


def passing_on(subject: Subject) -> None:
    """What one codec received another one sends on: under another id, unmodified or modified."""
    if subject.traits.headless:
        return
    for origin in (True, False):
        for data in (None, b"another body"):
            _pass_on(subject, keep_origin=origin, data=data)


def _pass_on(subject: Subject, *, keep_origin: bool, data: bytes | None) -> None:
    there, here = Pair(subject), Pair(subject)
    there.send(there.client, Head(1, subject.request, b"the body", end=True))
    new_id = 1 if subject.sharing is Sharing.SERIAL else 4097
    sent = _relay(there.server, here.client, new_id, here, keep_origin, data)
    back = Head(new_id, subject.response, b"the answer", end=True)
    here.send(here.server, back)
    answer = _relay(here.client, there.server, 1, there, keep_origin, data)
    for head, kind in ((sent, "request"), (answer, "response")):
        if head.stream_id not in {1, new_id}:
            raise Broken(f"a {kind} passed on under id {new_id} arrives under {head.stream_id}")


def _relay(
    source: Side, target: Side, new_id: int, pair: Pair, keep_origin: bool, data: bytes | None
) -> Head:
    """Send on what ``source`` received, as the proxy does; return it as it arrives."""
    frames = source.take()
    message = next(f for f in frames if isinstance(f, Head))
    body = body_in(frames, message.stream_id) if data is None else data
    whole = message.end and data is None
    head = Head(
        new_id,
        message.message,
        message.data if whole else body,
        end=True,
        origin=message.origin if keep_origin else None,
    )
    mark = len(target.sent)
    pair.send(target, head)
    wire = bytes(target.sent[mark:])
    got = pair.peer_of(target).take()
    arrived = [f for f in got if isinstance(f, Head)]
    how = ("with" if keep_origin else "without") + " its origin"
    if len(arrived) != 1 or arrived[0].stream_id != new_id:
        raise Broken(f"a message passed on {how} does not arrive under its new id {new_id}", wire)
    if body_in(got, new_id) != body:
        what = "its body" if data is None else "the body put in its place"
        raise Broken(f"a message passed on {how} arrives without {what}", wire)
    _compare_heads(message.message, arrived[0].message, f"a message passed on {how}", wire)
    return arrived[0]


def foreign_origin(subject: Subject) -> None:
    """The raw bytes of another protocol, or of a message that was changed, are never copied."""
    if subject.traits.headless:
        return
    raw = b"\xde\xad not of this protocol \xbe\xef"
    body = b"the body"
    name = subject.plugin.name
    head = subject.request
    for origin in (
        Origin("no-such-protocol", raw, head, body),
        Origin(name, raw, attrs.evolve(head, method=f"{head.method}X"), body),
        Origin(name, raw, head, b"what it was before"),
    ):
        wire = subject.open(Role.CLIENT).send(Head(1, head, body, end=True, origin=origin))
        if raw in wire:
            raise Broken("an origin is copied that is not this very message of this protocol", wire)


def local_mistakes(subject: Subject) -> None:
    """``send`` answers our own nonsense with LocalProtocolError or with bytes, and with nothing else."""
    request, response = subject.request, subject.response
    nonsense: tuple[Frame, ...] = (
        Data(1, b"no head before it"),
        Data(99, b"", end=True),
        Trailers(1, FIELD),
        Head(1, response, b"", end=True),
        Head(1, response, interim=True),
        Head(1, request, b"", end=True),
        Head(-1, request, b"", end=True),
        Head(2**70, request, b"", end=True),
        Head(1, attrs.evolve(request, service="\ud800\r\n\0", method="a b\r\n"), b"", end=True),
        Head(1, attrs.evolve(request, service="s" * 100_000), b"", end=True),
        Reset(1, Status.CANCELLED),
        Reset(99, Status.INTERNAL),
    )
    for role in Role:
        for frame in nonsense:
            codec = subject.open(role)
            for _ in range(2):  # the second time the state is another one
                try:
                    sent = codec.send(frame)
                except LocalProtocolError:
                    continue
                if not isinstance(sent, bytes):
                    raise Broken(f"send({frame!r}) returns a {type(sent).__name__}")
