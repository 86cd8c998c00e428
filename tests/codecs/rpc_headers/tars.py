"""Tars: whole size 4 · a packet of tagged fields.

Request: 1 version · 2 type · 4 id · 5 servant · 6 function · 7 body · 8 timeout · 9 map of texts.
Response: 1 version · 2 type · 3 id · 5 code · 6 body · 7 map of texts.
"""

from tests.codecs.rpc_headers.languages import read_packet, tars
from xproxy.api import NO, YES, Kind, LaidOut, Said, Status, Values, Verdict


def read(values: Values) -> Said:
    found = read_packet(values["packet"])
    if isinstance(found[5], int):
        said = {"id": found[3], "status": found[5], "body": found[6]}
        return Said(kind=Kind.RESPONSE, headers=found.get(7, ()), **said)
    return Said(
        kind=Kind.ONEWAY if found[2] == 1 else Kind.REQUEST,
        id=found[4],
        service=found[5].decode(),
        method=found[6].decode(),
        body=found[7],
        timeout=found[8],
        headers=found.get(9, ()),
    )


def write(said: Said, known: Values) -> Values:
    packet = b"\x10\x01\x20" + bytes([said.kind is Kind.ONEWAY])
    if said.kind is Kind.RESPONSE:
        packet += tars(3, said.id) + tars(4, 0) + tars(5, said.status) + tars(6, said.body)
        return {"packet": packet + tars(7, said.headers)}
    packet += tars(3, 0) + tars(4, said.id) + tars(5, said.service) + tars(6, said.method)
    return {"packet": packet + tars(7, said.body) + tars(8, said.timeout) + tars(9, said.headers)}


def recognise(prefix: bytes) -> Verdict:
    """Below 16 MiB, version 1, and a type of packet: 0 or 1."""
    if prefix[0] or not b"\x10\1".startswith(prefix[4:6]) or prefix[6:7] not in (b"", b" ", b","):
        return NO
    return YES if len(prefix) >= 7 else Verdict.more(len(prefix) + 1)


PLUGIN = LaidOut(
    name="tars",
    recognise=recognise,
    layout={"size": "I=total", "packet": "*"},
    read=read,
    write=write,
    kinds=frozenset({Kind.REQUEST, Kind.RESPONSE, Kind.ONEWAY}),
    statuses={
        0: Status.OK,
        -99: Status.INTERNAL,
        -3: Status.UNIMPLEMENTED,
        -7: Status.DEADLINE_EXCEEDED,
        -9: Status.RESOURCE_EXHAUSTED,
    },
    id_bits=31,
)
