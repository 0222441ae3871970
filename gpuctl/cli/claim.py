"""A runtime that its daemon has for itself: the engine is locked before it is first listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from gpuctl.model import ContainerReading
    from gpuctl.ports import Runtime

#: Takes the lock on the engine of that name. Raises `LockHeld`.
Lock = Callable[[str], object]


class Claim:
    """
    Stands before a runtime, and lets nothing be listed that another supervises.

    An engine that is away when the daemon starts cannot tell its name, and that must not keep the
    daemon from saying so. Nothing is decided, and so nothing written, before a list.
    """

    def __init__(self, runtime: Runtime, lock: Lock) -> None:
        self._runtime, self._lock = runtime, lock
        self._locked = False

    @property
    def runtime(self) -> Runtime:
        """The runtime to supervise: this one, with every other method as it was."""
        return cast("Runtime", self)

    def take(self) -> None:
        """Lock the engine, unless it is ours. Raises `LockHeld`, `RuntimeUnavailable`."""
        if not self._locked:
            self._lock(self._runtime.identity())
            self._locked = True

    def list(self) -> tuple[ContainerReading, ...]:
        """Return every container of ours, of an engine that no other supervises."""
        self.take()
        return self._runtime.list()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)
