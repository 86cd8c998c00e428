"""MongoDB OP_MSG, little-endian: size 4 · id 4 · answers 4 · 2013 4 · flags 4 · 0 · document · sections."""

from tests.codecs.rpc_headers.languages import read_bson, write_bson
from xproxy.api import NO, YES, Kind, LaidOut, RequestHead, Said, Status, Values, Verdict

# The first key of the document is the method.
OPERATION = 2013
ASKS = bytes(4) + OPERATION.to_bytes(4, "little")


def read(values: Values) -> Said:
    found, body = read_bson(values["doc"]), values["sections"]
    if values["answers"]:
        status = 0 if found.get("ok") == 1 else found.get("code", 8)
        return Said(kind=Kind.RESPONSE, id=values["answers"], status=status, body=body)
    return Said(
        kind=Kind.REQUEST,
        id=values["id"],
        service=found.get("$db", ""),
        method=next(iter(found)),
        body=body,
    )


def write(said: Said, known: Values) -> Values:
    answer = said.kind is Kind.RESPONSE
    doc: dict[str, float | int | str] = {said.method: 1, "$db": said.service}
    if answer:
        doc = {"ok": float(not said.status), "code": said.status}
    before = read(known) if "doc" in known else Said(kind=Kind.IGNORED)
    same = all(
        getattr(before, f) == getattr(said, f) for f in ("kind", "service", "method", "status")
    )
    return {
        "id": 0 if answer else said.id,
        "answers": said.id if answer else 0,
        "section": 0,
        "opcode": OPERATION,
        "flags": known.get("flags", 0),
        "sections": said.body,
        "doc": known["doc"] if same else write_bson(doc),
    }


def recognise(prefix: bytes) -> Verdict:
    seen = prefix[8:16]
    if not ASKS.startswith(seen):
        return NO
    return YES if seen == ASKS else Verdict.more(max(len(prefix), 8) + 1)


PLUGIN = LaidOut(
    name="mongodb",
    order="<",
    recognise=recognise,
    layout={
        "size": "I=total",
        "id": "I",
        "answers": "I",
        "opcode": "I",
        "flags": "I",
        "section": "B",
        "doc_size": "I=doc+4",
        "doc": "*",
        "sections": "*",
    },
    read=read,
    write=write,
    statuses={0: Status.OK, 8: Status.INTERNAL, 50: Status.DEADLINE_EXCEEDED},
    sample=RequestHead(service="admin", method="hello"),
)
