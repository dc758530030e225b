"""The network between the machine and a real node: one veth pair with a private range of its own.

    .1               the machine's end: API server and name server
    .2               the node
    .32 to .63       registries that play upstreams, an address each
    .64 to .127      proxy registries, an address each
    .128 to .255     Pods

The node answers ARP for its Pods, so that the machine reaches them without a route, and there is
no way on from the machine's end: what is not served on these addresses cannot be reached.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rehearsal.errors import RehearsalError

_RECORD = "network.json"
_ALIAS_LENGTH = 255
"""What Linux keeps of a link's alias; a longer folder is cut in front."""
_SUPERNET = ipaddress.IPv4Network("192.168.0.0/16")


class NetworkError(RehearsalError):
    """The network cannot be created; the message says what failed."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A veth pair and the addresses on it. It exists from create() until remove()."""

    name: str
    """Of the machine's end of the pair; the node's end is called `<name>n` until it is moved."""
    subnet: ipaddress.IPv4Network
    """A /24 that nothing on the machine used."""

    @property
    def host(self) -> str:
        """The machine's address: for the API server and the name server."""
        return str(self.subnet[1])

    @property
    def node(self) -> str:
        """The node's address."""
        return str(self.subnet[2])

    def for_upstreams(self, hosts: Collection[str]) -> dict[str, str]:
        """An address IP:443 of the machine for the registry that plays each upstream host.

        Raises NetworkError when there are more of them than addresses.
        """
        addresses = list(self._upstreams)
        if len(hosts) > len(addresses):
            raise NetworkError(f"{len(addresses)} addresses for {len(hosts)} upstream hosts")
        return {host: f"{addresses[index]}:443" for index, host in enumerate(hosts)}

    @property
    def _upstreams(self) -> ipaddress.IPv4Network:
        return tuple(self.subnet.subnets(prefixlen_diff=3))[1]

    @property
    def registries(self) -> tuple[str, ...]:
        """Addresses of the machine for proxy registries."""
        return tuple(map(str, _quarter(self.subnet, 1)))

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """The range of the node's Pods."""
        return tuple(self.subnet.subnets(prefixlen_diff=1))[1]

    @property
    def peer(self) -> str:
        """The name of the node's end before the node has taken it."""
        return f"{self.name}n"

    @classmethod
    def create(cls, folder: Path) -> Network:
        """Make the pair, with all addresses of the machine's end.

        `folder` remembers it for load(). Raises NetworkError.
        """
        network = cls(name=f"vke{secrets.token_hex(4)}", subnet=_free_subnet(_used()))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / _RECORD).write_text(json.dumps([network.name, str(network.subnet)]))
        _ip(f"link add {network.name} type veth peer name {network.peer}")
        try:
            for link in (network.name, network.peer):  # whose it is, for whoever finds it
                _ip("link set", link, "alias", str(folder)[-_ALIAS_LENGTH:])
            _ip(f"addr add {network.host}/24 dev {network.name}")
            _ip(f"link set {network.name} up")
            # Addresses that are local without being listed one by one; gone with the device.
            for addresses in (network._upstreams, _quarter(network.subnet, 1)):
                _ip(f"route add local {addresses} dev {network.name}")
        except NetworkError:
            network.remove()
            raise
        return network

    @classmethod
    def load(cls, folder: Path) -> Network | None:
        """The network that was created for this folder, None if none was."""
        try:
            name, subnet = json.loads((folder / _RECORD).read_text())
        except FileNotFoundError:
            return None
        return cls(name=name, subnet=ipaddress.IPv4Network(subnet))

    def give(self, pid: int) -> None:
        """Move the node's end into the network namespace of a process, as `eth0`.

        Raises NetworkError.
        """
        _ip(f"link set {self.peer} netns {pid} name eth0")

    def remove(self) -> None:
        """Remove the pair, and with it its addresses and routes; a pair not there is no error."""
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)


def _quarter(subnet: ipaddress.IPv4Network, index: int) -> ipaddress.IPv4Network:
    return tuple(subnet.subnets(prefixlen_diff=2))[index]


def _free_subnet(used: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """A random /24 of 192.168.0.0/16 that overlaps none of `used`. Raises NetworkError."""
    free = [
        subnet
        for subnet in _SUPERNET.subnets(new_prefix=24)
        if not any(subnet.overlaps(each) for each in used)
    ]
    if not free:
        raise NetworkError(f"no /24 of {_SUPERNET} is free on this machine")
    return secrets.choice(free)


def _used() -> list[ipaddress.IPv4Network]:
    """The destinations of all IPv4 routes but the default one."""
    routes = json.loads(_ip("-json -4 route show table all"))
    return [
        ipaddress.IPv4Network(each["dst"], strict=False)
        for each in routes
        if each["dst"] != "default"
    ]


def _ip(words: str, *more: str) -> str:
    command = ["ip", *words.split(), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout
