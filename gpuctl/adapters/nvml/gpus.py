"""
Who asks the child, how long it is waited for, and what becomes of one that hangs.

A sick GPU hangs NVML in the kernel, where nothing can be killed: a child that does not answer is
abandoned, at most one at a time, and another is tried after a while. The daemon lives on. Where an
Xid says that it will hang (`distrust`), nothing is asked until a fresh child has answered in time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gpuctl.adapters.nvml.answer import XID, readings, xid
from gpuctl.adapters.nvml.process import ChildProcess
from gpuctl.errors import GpuUnavailable
from gpuctl.model import GpuReading, Xid
from gpuctl.quantities import format_seconds

#: Without nvidia-persistenced the first touch initialises every card anew, for seconds each: a new
#: child has this long until it is abandoned, though no read waits longer than the deadline.
_START_SECONDS = 30.0
#: A host without NVIDIA's driver is not asked again before this.
_ABSENT_SECONDS = 60.0
#: Nor one whose NVML fails: a child costs 0.05 s of CPU to start (measured, one core of a Xeon).
_BROKEN_SECONDS = 10.0
#: SIGKILL ends a process in milliseconds, unless it is in the kernel.
_END_SECONDS = 0.5
#: NVML is trusted again when a fresh child answers within this: a reading takes milliseconds, also
#: the first one while the engines keep their cards initialised.
_PROBE_SECONDS = 5.0
#: When that is tried: after the Xid, after the first that did not answer, and after any later one.
_PROBES_AFTER_SECONDS = (5.0, 60.0, 300.0)
#: Xids kept until they are asked for.
_XIDS_KEPT = 256

#: The driver's control device: there when the kernel module is.
_CONTROL = Path("/dev/nvidiactl")
#: The child's own modules are of the same gpuctl as these, wherever it is imported from.
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from gpuctl.adapters.nvml.child.loop import main; main()"
)
_ROOT = Path(__file__).parents[3]

# Source: nvml.h, nvmlReturn_t.
_LIBRARY_NOT_FOUND = 12
_WORDS: Mapping[int, tuple[str, str]] = {
    4: ("no permission", "give this user access to /dev/nvidiactl, /dev/nvidia0 and so on"),
    9: ("the driver is not loaded", "load it with `modprobe nvidia`; `dmesg` says why it fails"),
    _LIBRARY_NOT_FOUND: (
        "/dev/nvidiactl is there, libnvidia-ml.so.1 is not",
        "install the library of the driver's version (Debian: libnvidia-ml1)",
    ),
    18: (
        "driver/library version mismatch",
        "the driver was upgraded while it was loaded: reboot",
    ),
}
_BROKEN_HINT = "see what `gpuctl doctor`, `nvidia-smi` and `dmesg` say"
_HUNG_HINT = "look for NVRM and Xid in `dmesg`; a GPU that hangs its driver needs a reboot"
_DISTRUST_HINT = "a new process tries after 5 s, 60 s, then each 300 s; see NVRM and Xid in `dmesg`"
_START_HINT = "cards initialised anew take seconds each; nvidia-persistenced keeps them ready"


class NvmlGpus:
    """
    Gpus through NVML, in a child that is started when first asked.

    *environment* is the child's, ours by default. *retry_seconds*: how long after a hang another
    child is tried, the last number for every hang that follows; *clock* counts them. *command*
    runs another child than the one that comes with this.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        deadline_seconds: float = 3.0,
        retry_seconds: tuple[float, ...] = (60.0, 300.0),
        python: str = sys.executable,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] | None = None,
    ) -> None:
        self._environment, self._clock = environment, clock
        self._deadline_seconds, self._retry_seconds = deadline_seconds, retry_seconds
        # -P: the directory it is started in is no place to import from.
        self._command = command or (python, "-P", "-c", _CHILD, str(_ROOT))
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._abandoned: ChildProcess | None = None
        self._started = 0.0  # when the child was
        self._asked: float | None = None  # when the question that is still open was
        self._answered = False  # the child has, once at least
        self._hangs = 0  # in a row
        self._silent_since = 0.0  # when the first of them was asked
        self._again = float("-inf")  # not before this; until then `_refusal`, or no GPU
        self._refusal: tuple[str, str, int | None] | None = None  # words, hint, NVML's code
        self._known: dict[int, GpuReading] = {}  # by index, as last read
        self._xids: deque[Xid] = deque(maxlen=_XIDS_KEPT)
        self._distrusted: str | None = None  # why nothing is asked
        self._probes = 0  # made since
        self._probe_at = 0.0  # the next one

    @property
    def child_pid(self) -> int | None:
        """The process that holds NVML at present; it counts to what the daemon costs."""
        child = self._child
        return child.pid if child else None

    def read(self) -> tuple[GpuReading, ...]:
        """
        Return every GPU by index, () on a host without NVIDIA's driver.

        A lost one keeps the identity it had. Processes have neither container nor name here.

        Raises:
            GpuUnavailable: no answer within the deadline, or NVML failed.
        """
        with self._lock:
            if self._distrusted is not None:
                return self._understood(self._probed(self._distrusted))
            if self._child is None:
                if self._abandoned is not None and self._abandoned.ended():
                    self._abandoned = None
                if self._abandoned is not None or (self._hangs and self._clock() < self._again):
                    raise self._no_answer()  # in the kernel still, a second one would join it
                if self._clock() < self._again:
                    if self._refusal is not None:
                        raise GpuUnavailable(*self._refusal)
                    return ()
            return self._understood(self._exchange())

    def xids(self) -> tuple[Xid, ...]:
        """Return the Xids told since the last call, oldest first; never waits."""
        # Whoever holds the lock reads what the child says, and takes these aside.
        if self._lock.acquire(blocking=False):
            try:
                for line in self._child.unasked(XID) if self._child else ():
                    self._take(line)
            finally:
                self._lock.release()
        told: list[Xid] = []
        with suppress(IndexError):
            while True:
                told.append(self._xids.popleft())
        return tuple(told)

    def distrust(self, reason: str) -> None:
        """
        Ask NVML nothing more until a fresh child has answered in time; *reason* is told meanwhile.

        It waits for a reading that is under way, which has its deadline.
        """
        with self._lock:
            if self._distrusted is None:
                self._distrusted, self._probes = reason, 0
                self._probe_at = self._clock() + _PROBES_AFTER_SECONDS[0]
                self._drop()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._drop()
            if self._abandoned is not None and self._abandoned.ended(_END_SECONDS):
                self._abandoned = None

    def _exchange(self) -> str:
        """Return the child's answer; one that has ended since the last is replaced."""
        if self._child is not None:
            try:
                return self._answer(self._child)
            except (OSError, EOFError):
                self._drop()
        try:
            self._child = ChildProcess(self._command, self._environment)
            self._started, self._answered = self._clock(), False
            return self._answer(self._child)
        except (OSError, EOFError) as error:
            self._drop()
            raise self._broken(f"its reader ended without an answer: {error}") from None

    def _answer(self, child: ChildProcess) -> str:
        if self._asked is None:
            child.ask()
            self._asked = self._clock()
        line = self._line(child, self._deadline_seconds)
        if line is None:
            raise self._silent(self._asked)
        self._asked, self._answered, self._hangs = None, True, 0
        return line

    def _line(self, child: ChildProcess, seconds: float) -> str | None:
        """Return the answer to what was asked; what is told beside it is taken aside."""
        until = time.monotonic() + seconds
        while True:
            line = child.answer(max(0.0, until - time.monotonic()))
            if line is None or not line.startswith(XID):
                return line
            self._take(line)

    def _take(self, line: str) -> None:
        # A line that makes no sense tells of no Xid; an answer that makes none ends the child.
        with suppress(ValueError, KeyError, TypeError):
            self._xids.append(xid(line, self._known))

    def _probed(self, reason: str) -> str:
        """Return the answer of a fresh child, if it is time for one and it answers in time."""
        refusal = GpuUnavailable(f"NVML: not asked since {reason}", _DISTRUST_HINT)
        if self._clock() < self._probe_at:
            raise refusal
        if self._abandoned is not None and not self._abandoned.ended():
            raise refusal  # in the kernel still, a second one would join it
        self._abandoned = None
        self._probes += 1
        line = None
        with suppress(OSError, EOFError):
            self._child = ChildProcess(self._command, self._environment)
            self._started = self._clock()
            self._child.ask()
            line = self._line(self._child, _PROBE_SECONDS)
        if line is None:
            self._drop()
            after = _PROBES_AFTER_SECONDS[min(self._probes, len(_PROBES_AFTER_SECONDS) - 1)]
            self._probe_at = self._clock() + after
            raise refusal
        self._distrusted, self._asked, self._answered, self._hangs = None, None, True, 0
        return line

    def _silent(self, asked: float) -> GpuUnavailable:
        """Abandon a child that hangs; one that has just started is given its time."""
        now = self._clock()
        if not self._hangs:
            self._silent_since = asked
        if not self._answered and now - self._started < _START_SECONDS:
            return self._no_answer(_START_HINT)
        self._again = now + self._retry_seconds[min(self._hangs, len(self._retry_seconds) - 1)]
        self._hangs += 1
        self._drop(0.0)
        return self._no_answer()

    def _no_answer(self, hint: str = _HUNG_HINT) -> GpuUnavailable:
        waited = max(self._clock() - self._silent_since, self._deadline_seconds)
        return GpuUnavailable(f"NVML: no answer for {format_seconds(waited)}", hint)

    def _drop(self, seconds: float = _END_SECONDS) -> None:
        """Kill the child; one that has not ended *seconds* later is abandoned, not waited for."""
        child, self._child, self._asked = self._child, None, None
        if child is not None:
            child.kill()
            if not child.ended(seconds):
                self._abandoned = child
                if not self._hangs:
                    self._silent_since = self._clock()

    def _understood(self, line: str) -> tuple[GpuReading, ...]:
        try:
            document = json.loads(line)
            code = document.get("error")
            if code is None:
                found = readings(document, self._known)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._drop()
            raise self._broken(f"its reader's answer makes no sense: {error!r}") from None
        if code is None:
            self._known = {gpu.index: gpu for gpu in found}
            return found
        self._drop()
        if code == _LIBRARY_NOT_FOUND and not _CONTROL.exists():
            self._again, self._refusal = self._clock() + _ABSENT_SECONDS, None
            return ()
        other = (f"{document.get('message')} (code {code})", _BROKEN_HINT)
        raise self._broken(*_WORDS.get(code, other), code)

    def _broken(
        self, words: str, hint: str = _BROKEN_HINT, code: int | None = None
    ) -> GpuUnavailable:
        self._again = self._clock() + _BROKEN_SECONDS
        self._refusal = (f"NVML: {words}", hint, code)
        return GpuUnavailable(*self._refusal)
