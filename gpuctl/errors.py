"""
The errors an operator can meet: each has a message (what, where, value), a hint (the next step)
and the exit code of the command that failed with it.

    GpuctlError                 1   anything expected to go wrong
    ├── UsageError              2   a command line that makes no sense
    ├── ProfileError            2   mistakes in a profile, all of them at once
    ├── PlanRefused             2   a valid profile that this host cannot carry
    ├── NotFound                2   a replica, workload, GPU or profile of that name does not exist
    ├── RuntimeUnavailable      1   the Docker Engine (or the process runtime) did not answer
    │   ├── ContainerMissing    1   the container is not there (any more)
    │   ├── NameTaken           1   a container of that name exists already
    │   ├── StartRefused        1   the runtime would not start it: image, port, GPU injection
    │   └── RuntimeTimeout      1   no answer within the deadline; what was asked may have happened
    ├── GpuUnavailable          1   NVML is missing, broken or hung
    ├── StoreError              1   state.db could not be read or written
    │   └── NothingStored       3   nothing was ever supervised here: there is no state.db
    ├── StatusDamaged           1   status.json is there and is no Status
    ├── LockHeld                1   another gpuctl supervises this state directory or this engine
    └── DaemonDown              3   nothing is supervising
"""

from __future__ import annotations


class GpuctlError(Exception):
    """An expected failure, in words for an operator."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(GpuctlError):
    """The command line makes no sense."""

    exit_code = 2


class ProfileError(GpuctlError):
    """
    A profile cannot be used; *mistakes* holds every one found.

    Each mistake is a pair of `file:line: path.to.key: what is wrong` and its hint ("" for none).
    """

    exit_code = 2

    def __init__(self, mistakes: tuple[tuple[str, str], ...]) -> None:
        super().__init__("\n".join(message for message, _ in mistakes))
        self.mistakes = mistakes


class PlanRefused(GpuctlError):
    """The profile is valid, and this host cannot carry it."""

    exit_code = 2


class NotFound(GpuctlError):
    """Nothing of that name exists."""

    exit_code = 2


class RuntimeUnavailable(GpuctlError):
    """The container runtime did not answer, or answered with a fault of its own."""


class ContainerMissing(RuntimeUnavailable):
    """The container is not there."""


class NameTaken(RuntimeUnavailable):
    """A container of that name exists already."""


class StartRefused(RuntimeUnavailable):
    """The runtime would not create or start the container."""


class RuntimeTimeout(RuntimeUnavailable):
    """No answer within the deadline; what was asked may or may not have happened."""


class GpuUnavailable(GpuctlError):
    """NVML is missing, broken or hung; *code* is nvml.h's, `None` where it told none."""

    def __init__(self, message: str, hint: str = "", code: int | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


class StoreError(GpuctlError):
    """state.db could not be read or written."""


class NothingStored(StoreError):
    """There is no state.db: nothing was ever supervised here."""

    exit_code = 3


class StatusDamaged(GpuctlError):
    """status.json is there and is no Status: the next one replaces it."""


class LockHeld(GpuctlError):
    """Another gpuctl supervises here already."""


class DaemonDown(GpuctlError):
    """Nothing is supervising."""

    exit_code = 3
