"""A whole GPU host that is not there: Runtime, Gpus, Prober and Host from one host-state file."""

from gpuctl.adapters.simulated.simulated_host import SimulatedHost

__all__ = ["SimulatedHost"]
