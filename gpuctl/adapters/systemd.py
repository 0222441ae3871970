"""
What the daemon tells systemd about itself: ready, alive, reloading, stopping.

Outside a unit with `Type=notify` every call does nothing. The protocol is one datagram of
`NAME=value` lines to a Unix socket; it needs no library.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

#: A full queue of PID 1 must not stop the loop; a word lost is said again at the next tick.
SEND_SECONDS = 1.0


class Systemd:
    """The connection to the service manager; makes no use of the environment once it is made."""

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        *,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        """
        Speak to the socket at *address*, `@` in front for an abstract one; `None`: to nobody.

        *watchdog_seconds* is how long systemd waits for a sign of life; `None`: for ever.
        A word that systemd does not take within *send_seconds* is dropped.
        """
        self._address, self._send_seconds = address, send_seconds
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Systemd:
        """
        Return the connection that *environment* names, and remove it from there.

        An engine or a tool that we start must not speak, or be waited for, in our name.
        """
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", None)
        pid = environment.pop("WATCHDOG_PID", None)
        ours = microseconds is not None and pid in (None, str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if ours and microseconds else None)

    @property
    def listening(self) -> bool:
        """True when somebody is told."""
        return self._address is not None

    def tell(self, *assignments: str) -> None:
        """
        Send assignments such as `READY=1` and `STATUS=16 replicas` in one datagram.

        `WATCHDOG=1` is sent only where it is waited for, `RELOADING=1` with the time that
        `Type=notify-reload` asks for in the same datagram. What the service manager does not
        take is no reason to fail.
        """
        lines = [line for line in assignments if line != "WATCHDOG=1" or self.watchdog_seconds]
        if "RELOADING=1" in lines:
            lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if lines:
            # A line break inside a value would begin another assignment.
            self._send("\n".join(" ".join(line.splitlines()) for line in lines))

    def _send(self, words: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(self._send_seconds)
            try:
                sender.sendto(words.encode(), address)
            except OSError:
                return
