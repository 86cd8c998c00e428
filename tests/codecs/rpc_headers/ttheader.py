"""TTHeader (Kitex): size of the rest 4 · ``10 00`` · flags 2 · id 4 · head size in words 2 · head · payload.

The head: protocol 1 · transforms 1 · blocks, ``10``: numbered keys (6 service, 9 method, 22 type), ``01``: named.
"""

from tests.codecs.rpc_headers.languages import read_text, write_pairs, write_text
from xproxy.api import Kind, LaidOut, Said, Status, Values

NUMBERED, NAMED = 0x10, 0x01
SERVICE, METHOD, TYPE, STATUS = 6, 9, 22, 36
KINDS = {"1": Kind.REQUEST, "2": Kind.RESPONSE, "4": Kind.ONEWAY}
TYPES = {kind: text for text, kind in KINDS.items()}


def read(values: Values) -> Said:
    meta, at = values["meta"], 2
    found: dict[int | str, str] = {}
    while at < len(meta) and (block := meta[at]):
        count, at = int.from_bytes(meta[at + 1 : at + 3]), at + 3
        for _ in range(count):
            key: int | str = int.from_bytes(meta[at : at + 2])
            at += 2
            if block != NUMBERED:
                key, at = read_text(meta, at - 2, 2)
            found[key], at = read_text(meta, at, 2)
    return Said(
        kind=KINDS[found[TYPE]],
        id=values["id"],
        service=found.get(SERVICE, ""),
        method=found.get(METHOD, ""),
        headers=tuple((key, text) for key, text in found.items() if isinstance(key, str)),
        status=int(found.get(STATUS, "0")),
        body=values["payload"],
    )


def write(said: Said, known: Values) -> Values:
    numbered = {TYPE: TYPES[said.kind], SERVICE: said.service, METHOD: said.method}
    numbered |= {STATUS: str(said.status)} if said.status else {}
    meta = b"\0\0" + bytes([NUMBERED]) + len(numbered).to_bytes(2)
    meta += b"".join(key.to_bytes(2) + write_text(text, 2) for key, text in numbered.items())
    meta += bytes([NAMED]) + len(said.headers).to_bytes(2) + write_pairs(said.headers, 2)
    flags, padding = known.get("flags", 0), bytes(-len(meta) % 4)
    return {"flags": flags, "id": said.id, "meta": meta + padding, "payload": said.body}


PLUGIN = LaidOut(
    name="ttheader",
    magic=b"\x10\x00",
    layout={
        "size": "I=rest",
        "magic": "2s",
        "flags": "H",
        "id": "I",
        "words": "H=meta/4",
        "meta": "*",
        "payload": "*",
    },
    read=read,
    write=write,
    kinds=frozenset(TYPES),
    statuses={0: Status.OK, 6: Status.INTERNAL, 1: Status.UNIMPLEMENTED},
)
