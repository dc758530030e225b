"""The name server of a real node: knows the rehearsal's own host names and no others.

`python -m rehearsal.cluster.node.name_server CONFIG` reads `{"address": …, "names_url": …}` from a
JSON file and answers on UDP port 53 of the address. The URL is the emulator's `/-/names`; it is
asked for each query, so that a registry has its name as soon as it runs. Only names served on port
443 of an address are known, for a name server has no way to tell of a port.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import httpx

_TIME_TO_LIVE = 1
_DATAGRAM = 4096


def answer(query: dns.message.Message, table: Mapping[str, str]) -> dns.message.Message:
    """The answer to a query, from a table of host names and IPv4 addresses."""
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    question = query.question[0]
    address = table.get(question.name.to_text(omit_final_dot=True).lower())
    if address is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        response.answer.append(
            dns.rrset.from_text(question.name, _TIME_TO_LIVE, "IN", "A", address)
        )
    return response


def serve(address: str, names_url: str) -> None:
    """Answer until the process is ended. Raises OSError when the address cannot be bound."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        httpx.Client(trust_env=False, timeout=5) as client,
    ):
        server.bind((address, 53))
        while True:
            datagram, sender = server.recvfrom(_DATAGRAM)
            try:
                query = dns.message.from_wire(datagram)
            except dns.exception.DNSException:
                continue
            if query.question:
                response = _answered(query, client, names_url)
                server.sendto(response.to_wire(), sender)


def answers(address: str) -> bool:
    """Whether a name server answers at this address."""
    try:
        dns.query.udp(dns.message.make_query("localhost.", "A"), address, timeout=0.5)
    except (dns.exception.DNSException, OSError):
        return False
    return True


def _answered(
    query: dns.message.Message, client: httpx.Client, names_url: str
) -> dns.message.Message:
    try:
        names = client.get(names_url).raise_for_status().json()
    except httpx.HTTPError:
        failure = dns.message.make_response(query)
        failure.set_rcode(dns.rcode.SERVFAIL)
        return failure
    table = {name: where["host"] for name, where in names.items() if where["port"] == 443}
    return answer(query, table)


if __name__ == "__main__":
    serve(**json.loads(Path(sys.argv[1]).read_text()))
