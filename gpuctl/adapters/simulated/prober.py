"""Simulated engines behind the Prober port: each answers as its container and its fault say."""

from __future__ import annotations

from collections import Counter

from gpuctl.adapters.simulated.machine import Machine
from gpuctl.adapters.simulated.records import Container
from gpuctl.errors import GpuctlError
from gpuctl.model import ProbeResult, ProbeSpec

#: Every engine reads its own names of it. Source: the /metrics of llama.cpp and of vLLM.
_METRICS = """\
llamacpp:tokens_predicted_total {tokens}
llamacpp:requests_processing {running}
llamacpp:requests_deferred 0
vllm:generation_tokens_total {tokens}
vllm:num_requests_running {running}
vllm:num_requests_waiting 0
"""

#: A time-out takes no time here: a thread held for each would be dear, and a simulated clock would
#: not move meanwhile. So its latency is 0, and it is asked again at the usual pace.
_OUTCOMES = {
    "refused": ProbeResult(outcome="refused", detail="connection refused"),
    "reset": ProbeResult(outcome="reset", detail="connection reset by peer"),
    "timeout": ProbeResult(outcome="timeout", detail="no answer (simulated)"),
    "dead": ProbeResult(outcome="dead", status=503, detail="HTTP 503 (simulated)"),
}
_LOADING = ProbeResult(outcome="loading", status=503, detail="HTTP 503 loading (simulated)")
#: An engine that does not compute, or whose model is gone, has no token to give.
_TOKENLESS = ("stalled", "vram_lost")


class SimulatedProber:
    """Finds the container that listens on the port asked; an engine is idle but for canaries."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tokens: Counter[str] = Counter()  # container → canaries answered

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        try:
            self._machine.host()
            listener = self._machine.listener(spec.port)
        except GpuctlError as error:
            return ProbeResult(outcome="error", detail=error.message)
        return self._answer(spec, listener)

    def canary(self, spec: ProbeSpec) -> bool:
        if self.probe(spec).outcome != "ok":
            return False
        try:
            listener = self._machine.listener(spec.port)
        except GpuctlError:
            return False
        if listener is None or self._kind(listener) in _TOKENLESS:
            return False
        self._tokens[listener.id] += 1
        return True

    def warm_up(self, spec: ProbeSpec, seconds: float) -> ProbeResult:
        answered = self.probe(spec)
        if answered.outcome == "ok" and not self.canary(spec):
            return _OUTCOMES["timeout"]
        return answered

    def _answer(self, spec: ProbeSpec, listener: Container | None) -> ProbeResult:
        if listener is None:
            return _OUTCOMES["refused"]
        kind = self._kind(listener)
        if kind in _OUTCOMES:
            return _OUTCOMES[kind]
        if self._machine.loaded_ratio(listener) < 1.0:
            return _LOADING
        metrics = None
        if spec.metrics_path is not None:
            # A stalled engine has a request that it gets nowhere with.
            running = 1 if kind == "stalled" else 0
            metrics = _METRICS.format(tokens=self._tokens[listener.id], running=running)
        return ProbeResult(outcome="ok", status=200, metrics=metrics)

    def _kind(self, listener: Container) -> str:
        fault = self._machine.fault(listener.replica)
        return fault.kind if fault is not None else ""
