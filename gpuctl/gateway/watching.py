"""Files that others write and the gateway reads: again when they have changed, and only then."""

from __future__ import annotations

import os

#: status.json of 512 replicas and GPUs has some 2 MiB.
_MOST_BYTES = 16 * 1024 * 1024

Signature = tuple[int, int, int]


class Watched:
    """One file, replaced by whoever writes it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: Signature | None = None

    def changed(self) -> bytes | None:
        """
        Return what it holds if that is new; `None` if not, or if it is not there.

        Raises:
            OSError: it is there, and may not be read.
        """
        try:
            if _signature(os.stat(self._path)) == self._seen:  # as it nearly always is
                return None
            with open(self._path, "rb") as file:
                signature = _signature(os.fstat(file.fileno()))
                content = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
        self._seen = signature
        return content


def _signature(found: os.stat_result) -> Signature:
    return found.st_mtime_ns, found.st_ino, found.st_size
