"""Who listens on the ports that replicas are to have."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Mapping

from gpuctl.diagnosis.facts import PortFacts


def ports(wanted: Mapping[int, str], ours: Collection[int]) -> tuple[PortFacts, ...]:
    """
    Return the state of each port on loopback; *ours* are those that running replicas hold.

    Source: bind(2), and for the holder /proc/net/tcp with /proc/*/fd, which only root sees all of.
    """
    taken = {number for number in wanted if number not in ours and _taken(number)}
    holders = _holders(taken) if taken else {}
    return tuple(
        PortFacts(
            number=number,
            owner=owner,
            state="ours" if number in ours else "taken" if number in taken else "free",
            holder=holders.get(number, ""),
        )
        for number, owner in wanted.items()
    )


def _taken(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As a server would: an address in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _holders(numbers: Collection[int]) -> dict[int, str]:
    """Return `nginx (pid 812)` for each port whose holder this user may see."""
    import psutil  # 10 ms, which a host whose ports are free need not pay

    found: dict[int, str] = {}
    for connection in psutil.net_connections(kind="tcp"):
        number: int = connection.laddr.port if connection.laddr else 0
        if number not in numbers or connection.pid is None or connection.status != "LISTEN":
            continue
        try:
            found[number] = f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.Error:
            continue
    return found
