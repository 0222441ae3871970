"""
One supervisor per state directory and per engine: a file lock, and an abstract socket's name.

The file lock keeps two daemons off one state directory. The socket, named after the engine's ID,
keeps two with different directories off one engine. The kernel frees both when the holder dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from pathlib import Path

from gpuctl.errors import LockHeld, StoreError


def lock_directory(directory: Path) -> int:
    """
    Take the lock on a state directory; return the descriptor that holds it.

    Raises `LockHeld` naming the pid that has it.
    """
    path = directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}", "run as the user that owns it, or set GPUCTL_STATE_DIR"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        written = os.pread(descriptor, 32, 0).strip()
        holder = written.decode() if written.isdigit() else "unknown"
        os.close(descriptor)
        raise LockHeld(
            f"{directory}: another gpuctl (pid {holder}) supervises here",
            "`gpuctl status` shows it; `gpuctl down` ends what it runs",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def lock_engine(identity: str) -> socket.socket:
    """
    Take the name of a container engine; return the socket that holds it.

    Raises `LockHeld` when another gpuctl, with another state directory, has it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # A name has room for 107 bytes (unix(7)), and the process runtime's identity is a path: its
    # hash is as telling, and 64 bytes long.
    name = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()
    try:
        held.bind(f"\0gpuctl:{name}")
    except OSError as error:
        held.close()
        raise LockHeld(
            f"another gpuctl supervises the engine {identity[:24]}",
            "it has another state directory: see `ps -ef | grep gpuctl`",
        ) from error
    return held
