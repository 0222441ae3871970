"""keys.json on disk: read as it is, or changed as a whole by one at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from gpuctl import paths
from gpuctl.errors import GpuctlError
from gpuctl.gateway import key_files, keyring
from gpuctl.gateway.keyring import Key

#: The gateway is another user, of the configuration directory's group.
_MODE = 0o640

Keys = tuple[Key, ...]


def read(path: str) -> Keys:
    """Return the keys, oldest first. Raises `GpuctlError` where they cannot be read."""
    try:
        return keyring.read(key_files.document(path))
    except ValueError as error:
        raise key_files.damaged(path, error) from None


def change(path: str, edit: Callable[[Keys], Keys]) -> None:
    """
    Replace the keys by what *edit* makes of them; a second caller waits meanwhile.

    Raises:
        GpuctlError: they cannot be read or written, or *edit* raises it: nothing has changed.
    """
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            _replace(path, held, keyring.write(edit(read(path))))
        finally:
            os.close(held)
    except OSError as error:
        where = os.fsdecode(error.filename or path)
        denied = isinstance(error, PermissionError)
        raise GpuctlError(
            f"{where}: {error.strerror}", paths.denied(path) if denied else ""
        ) from None


def _replace(path: str, directory: int, content: bytes) -> None:
    """Write the file beside the old one, and put it in its place: a reader sees either whole."""
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)  # of a caller that was killed: this one holds the lock
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, -1, os.fstat(directory).st_gid)
        os.fchmod(descriptor, _MODE)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(fresh, path)
    os.fsync(directory)
