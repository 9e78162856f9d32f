"""A network namespace of the benchmark's own, so that what its programs receive is counted apart from all else."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BRIDGE = "bench0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A way to the network that only this benchmark uses.

    Attributes:
        namespace: its name.
        interface: the host's end of the pair of interfaces that leads into it.
    """

    namespace: str
    interface: str

    def enter(self, *argv: str | Path) -> list[str]:
        """Returns the command line that runs *argv* in here; it becomes that program, under the same process id."""
        # Not `ip netns exec`, which would also take /sys/fs/cgroup from a Docker engine.
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *map(str, argv)]

    def received_bytes(self) -> int:
        """Returns what has come in so far, headers included."""
        # What the host's end has sent is what came in at the other end.
        return int(Path(f"/sys/class/net/{self.interface}/statistics/tx_bytes").read_text())


@contextlib.contextmanager
def own_network() -> Iterator[Network]:
    """Makes a namespace whose programs reach what the machine reaches, and a bridge in it that leads nowhere.

    Containers on the bridge can be asked from inside the namespace, but reach nothing outside of it.
    """
    number = os.getpid()
    host, inner, space = f"wch{number}", f"wcn{number}", f"wcbench{number}"
    subnet = f"10.213.{number % 250}"
    with contextlib.ExitStack() as undo:

        def do(command: str, reverse: str = "") -> None:
            subprocess.run(command.split(), check=True)
            if reverse:
                undo.callback(subprocess.run, reverse.split(), check=False)

        do(f"ip netns add {space}", f"ip netns delete {space}")
        do(f"ip link add {host} type veth peer name {inner} netns {space}", f"ip link delete {host}")
        do(f"ip addr add {subnet}.1/30 dev {host}")
        do(f"ip link set {host} up")
        do(f"ip -n {space} addr add {subnet}.2/30 dev {inner}")
        do(f"ip -n {space} link set {inner} up")
        do(f"ip -n {space} link set lo up")
        do(f"ip -n {space} route add default via {subnet}.1")
        _let_forward(undo)
        for rule in (
            f"POSTROUTING --table nat --source {subnet}.0/30 --jump MASQUERADE",
            f"FORWARD --in-interface {host} --source {subnet}.0/30 --jump ACCEPT",
            f"FORWARD --out-interface {host} --jump ACCEPT",
        ):
            do(f"iptables --wait --insert {rule}", f"iptables --wait --delete {rule}")
        do(f"nsenter --net=/run/netns/{space} sysctl --quiet --write net.ipv4.ip_forward=0")
        do(f"ip -n {space} link add name {BRIDGE} type bridge")
        do(f"ip -n {space} addr add {subnet}.129/25 dev {BRIDGE}")
        do(f"ip -n {space} link set {BRIDGE} up")
        yield Network(namespace=space, interface=host)


def _let_forward(undo: contextlib.ExitStack) -> None:
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    if before.strip() == "0":
        forward.write_text("1")
        undo.callback(forward.write_text, before)
