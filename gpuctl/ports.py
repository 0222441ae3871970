"""
The seams: one Protocol for each thing the supervisor touches, and World, which holds one of each.

Adapters implement them and translate every vendor error into `gpuctl.errors`; tests implement
them in memory. Every call has a deadline of its own and may be made from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuctl.model import (
    ContainerReading,
    ContainerSpec,
    Event,
    GatewayReading,
    GpuReading,
    HostReading,
    ProbeResult,
    ProbeSpec,
    RuntimeEvent,
    Xid,
)


class Runtime(Protocol):
    """
    Where replicas run: Docker, plain processes, or a simulation.

    A container is ours when it carries the label `gpuctl.replica`; the runtime never lists,
    touches or reports any other. Raises children of `RuntimeUnavailable` only.
    """

    @property
    def kind(self) -> str:
        """`docker`, `process` or `simulated`."""
        ...

    def identity(self) -> str:
        """Return what names this engine: the Docker Engine's ID, or the process state directory."""
        ...

    def list(self) -> tuple[ContainerReading, ...]:
        """Return every container of ours, running or not, with what an inspection tells."""
        ...

    def inspect(self, container: str) -> ContainerReading | None:
        """Return one container by id or name, `None` when there is none."""
        ...

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        """
        Yield events of our containers as they come; blocks, and ends when the stream does.

        *since* (Unix seconds) asks for what was missed. `close()` ends it from another thread.
        """
        ...

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        """Create a container, not started; return its id. Raises `NameTaken`, `StartRefused`."""
        ...

    def start(self, container: str) -> None:
        """Start it; starting a running one is no error. Raises `StartRefused`."""
        ...

    def signal(self, container: str, signal: str) -> None:
        """Send `SIGTERM` or `SIGKILL`; one that has ended already is no error."""
        ...

    def rename(self, container: str, name: str) -> None: ...

    def disconnect(self, container: str) -> None:
        """Cut it from its network, which frees the ports it holds."""
        ...

    def remove(self, container: str) -> None:
        """Remove one that has ended; one that is gone already is no error."""
        ...

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        """Return its last *lines* lines of output, both streams, oldest first."""
        ...

    def follow(self, container: str, lines: int) -> Iterator[str]:
        """Yield its output as it comes, from the last *lines* on; ends when it does."""
        ...

    def may_open_gpus(self, container: str) -> bool | None:
        """
        Return whether what a running container begins now may open NVIDIA's devices.

        `None` where it does not tell. It costs a process in the container: to be asked rarely.
        """
        ...

    def has_image(self, image: str) -> bool: ...

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        """Fetch an image; *progress* is told a line and a ratio (0-1, `None` where unknown)."""
        ...

    def close(self) -> None:
        """End every stream and connection."""
        ...


class Gpus(Protocol):
    """The GPUs of the host. Raises `GpuUnavailable` when they cannot be read in time."""

    def read(self) -> tuple[GpuReading, ...]:
        """Return every GPU, by index; an empty tuple is a host without one."""
        ...

    def xids(self) -> tuple[Xid, ...]:
        """Return the Xids told since the last call, oldest first. Never waits, never raises."""
        ...

    def distrust(self, reason: str) -> None:
        """
        Ask the driver nothing more until it has answered a fresh try in time.

        After some Xids it may hang whoever asks it; `read` raises meanwhile, and tells *reason*.
        """
        ...

    def close(self) -> None: ...


class KernelLog(Protocol):
    """What the kernel says of GPUs. Nothing here waits or raises."""

    def read(self) -> tuple[Xid, ...]:
        """
        Return the Xids told since the last call, oldest first, `gpu` left open.

        The first call has those of before, as far back as the log goes in this boot.
        """
        ...

    def fault(self) -> str:
        """Return why it cannot be followed at present, "" where it can."""
        ...

    def close(self) -> None: ...


class Prober(Protocol):
    def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Ask for health, and for metrics where the engine has them; never raises."""
        ...

    def canary(self, spec: ProbeSpec) -> bool | None:
        """
        Ask for one token; True when one came within the deadline. Never raises.

        `None` where that tells nothing of its tokens: the engine did not let us in, or it answers
        nothing while it works and had no time yet.
        """
        ...

    def warm_up(self, spec: ProbeSpec, seconds: float) -> ProbeResult:
        """Have one warm-up request answered within *seconds*; `ok` when it was. Never raises."""
        ...


class Host(Protocol):
    """The machine itself: memory, disk, load, who owns a process."""

    def read(self) -> HostReading: ...

    def container_of(self, pid: int) -> str | None:
        """
        Return the id of the container that process is in, `None` for a stranger.

        Docker's: the 64 hexadecimal digits in `/proc/<pid>/cgroup`. The process runtime's: the id
        it gave its container.
        """
        ...

    def name_of(self, pid: int) -> str | None:
        """Return the program's name, `None` when the process is gone."""
        ...

    def may_open_gpus(self, pid: int) -> bool | None:
        """Return whether its cgroup lets a process open NVIDIA's devices, `None` if not known."""
        ...


class Store(Protocol):
    """state.db and status.json. Raises `StoreError`."""

    @property
    def cautious(self) -> bool:
        """True when the events of before were lost, until the next `up`."""
        ...

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events in one transaction, durably; return them with their ids."""
        ...

    def events(self, *, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """Return the events with an id above *after*, oldest first; the newest *limit* of them."""
        ...

    def remembered(self) -> Iterator[Event]:
        """Yield the events that `history.remember` makes memory of, oldest first."""
        ...

    def publish(self, status: str) -> None:
        """Replace status.json with this text, atomically."""
        ...

    def close(self) -> None: ...


class Clock(Protocol):
    @property
    def boot_id(self) -> str:
        """`/proc/sys/kernel/random/boot_id`."""
        ...

    def now(self) -> float:
        """Unix seconds."""
        ...

    def boot_seconds(self) -> float:
        """CLOCK_BOOTTIME: never stepped, counts a suspend."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when so many have passed; for workers, never for the thread that decides."""
        ...


class Gateway(Protocol):
    def read(self) -> GatewayReading | None:
        """Return gateway.json; `None` when it is absent, unreadable or older than 5 s."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One of each; composed by `cli`, handed down."""

    runtime: Runtime
    gpus: Gpus
    prober: Prober
    host: Host
    store: Store
    clock: Clock
    gateway: Gateway
    kernel_log: KernelLog | None = None  # None: a simulated host has none
