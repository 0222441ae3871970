"""The four ports of one simulated host, composed; `cli` constructs it for `--simulate`."""

from __future__ import annotations

import secrets
from pathlib import Path

from gpuctl import host_state
from gpuctl.adapters.simulated.devices import SimulatedGpus, SimulatedMachineHost
from gpuctl.adapters.simulated.machine import Machine
from gpuctl.adapters.simulated.prober import SimulatedProber
from gpuctl.adapters.simulated.runtime import SimulatedRuntime
from gpuctl.ports import Clock, Gpus, Host, Prober, Runtime


class SimulatedHost:
    """
    A shipped host by its name, or the host of a file.

    With a *state_directory* its containers outlive this process, and every other that is given the
    same directory sees them; without, they are this object's alone.

    Raises:
        NotFound: there is no shipped host of that name.
        UsageError: the file is no host state.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        clock: Clock,
        state_directory: Path | None = None,
    ) -> None:
        self._machine = Machine(host_state.find(name_or_path), state_directory, clock)
        own = state_directory.absolute() if state_directory else secrets.token_hex(8)
        self.runtime: Runtime = SimulatedRuntime(self._machine, f"simulated:{own}")
        self.gpus: Gpus = SimulatedGpus(self._machine)
        self.prober: Prober = SimulatedProber(self._machine)
        self.host: Host = SimulatedMachineHost(self._machine)

    @property
    def cpus(self) -> int:
        """The simulated host's CPUs."""
        return self._machine.host().cpus
