"""
The Xids and OOM kills in the kernel's log: /dev/kmsg where it may be read, else the journal through
`journalctl`.

Only lines of the kernel itself count: what a user writes has another facility. One thread follows
the log from its oldest line on, so those of before this process are read too.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuctl.guarded import guarded
from gpuctl.model import Xid

#: Xids kept until they are asked for, and containers, the newest.
_KEPT = 256
#: Of a kernel's message; the rest of a longer one is registers.
_MESSAGE_CHARACTERS = 300
#: A record of /dev/kmsg is never longer. Source: printk.c, PRINTK_MESSAGE_MAX.
_RECORD_BYTES = 8192
#: A log that ended or could not be read is tried again after this.
_RETRY_SECONDS = 60.0
#: The present boot's lines, with as many of before as a kernel keeps itself.
_JOURNAL = ("journalctl", "-k", "-f", "-o", "json", "-n", "10000", "--no-pager")

#: "NVRM: Xid (PCI:0000:06:00): 79, pid=1234, name=python, GPU has fallen off the bus."
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)[^)]*\)[^:]*: ([0-9]{1,9})\b,? ?(.*)", re.S
)
#: "NVRM: GPU 0000:06:00.0: GPU has fallen off the bus." and, on several lines, "NVRM: The NVIDIA
#: GPU 0000:06:00.0 (PCI ID: …) installed in this system has fallen off the bus and …".
_FALLEN = re.compile(
    r"NVRM: (?:The NVIDIA )?GPU (?:at )?(?:PCI:)?"
    r"([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)[:\s]"
    r".*\bfallen off the bus",
    re.S,
)
_FALLEN_XID = 79
#: "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=…,mems_allowed=0,
#: oom_memcg=/docker/<id>,task_memcg=…,task=python3,pid=7,uid=0", written before the victim is sent
#: its SIGKILL; of ten in 5 s. Source: mm/oom_kill.c, dump_oom_summary, since Linux 5.0.
_OOM = re.compile(
    r"oom-kill:constraint=CONSTRAINT_MEMCG,.*?,oom_memcg=[^,]*"
    r"(?<![0-9a-f])([0-9a-f]{64})(?:\.scope)?,task_memcg="
)
_PID = re.compile(r"\bpid='?([0-9]{1,10})\b")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")

Clocks = Callable[[], tuple[float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of the kernel's own; *monotonic_seconds* is on CLOCK_MONOTONIC."""

    message: str
    monotonic_seconds: float


def clocks() -> tuple[float, float, float]:
    """Return Unix time, CLOCK_BOOTTIME and CLOCK_MONOTONIC, in seconds."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()


class SystemKernelLog:
    """Follows the log from the first `read` on."""

    def __init__(
        self,
        *,
        kmsg: Path = Path("/dev/kmsg"),
        journal: Sequence[str] = _JOURNAL,
        clocks: Clocks = clocks,
    ) -> None:
        self._kmsg, self._journal, self._clocks = kmsg, tuple(journal), clocks
        self._told: deque[Xid] = deque(maxlen=_KEPT)
        self._starved: deque[str] = deque(maxlen=_KEPT)  # containers
        self._fault = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._end = -1  # becomes readable at the end

    def read(self) -> tuple[Xid, ...]:
        """Return the Xids told since the last call, oldest first, without `gpu`; never waits."""
        if self._thread is None:
            self._end = os.eventfd(0, os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._run, name="kernel_log", daemon=True)
            self._thread.start()
        told: list[Xid] = []
        with suppress(IndexError):
            while True:
                told.append(self._told.popleft())
        return tuple(told)

    def starved(self, container: str) -> bool:
        """
        Return whether the kernel has killed in this container (id) for its limit of RAM, once.

        Known from the first `read` on.
        """
        try:
            self._starved.remove(container)
        except ValueError:
            return False
        return True

    def fault(self) -> str:
        """Return why the log cannot be followed at present, "" where it can."""
        return self._fault

    def close(self) -> None:
        """Let go of the log."""
        self._ended.set()
        if self._thread is not None:
            os.eventfd_write(self._end, 1)
            self._thread.join()
            os.close(self._end)
            self._thread = None

    def _run(self) -> None:
        while not self._ended.is_set():
            guarded("kernel_log", self._follow)
            self._ended.wait(_RETRY_SECONDS)

    def _follow(self) -> None:
        """Read on until it ends, or this reader does; say why it ended."""
        try:
            descriptor = os.open(self._kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            kept_out = f"{self._kmsg}: {error.strerror}"
        else:
            try:
                kept_out = self._follow_kmsg(descriptor)
            finally:
                os.close(descriptor)
        if not self._ended.is_set():
            self._follow_journal(kept_out)

    def _follow_kmsg(self, descriptor: int) -> str:
        while not self._ended.is_set():
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BlockingIOError:
                self._fault = ""
                self._wait(descriptor)
                continue
            except BrokenPipeError:
                continue  # older lines were overwritten before they were read
            except OSError as error:
                return f"{self._kmsg}: {error.strerror}"
            if not record:
                return f"{self._kmsg}: it ended"
            self._take(parse_record(record))
        return ""

    def _follow_journal(self, kept_out: str) -> None:
        try:
            process = subprocess.Popen(
                self._journal,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an operator's ^C is not meant for it
            )
        except OSError as error:
            self._fault = f"{kept_out}; {self._journal[0]}: {error.strerror}"
            return
        assert process.stdout is not None
        try:
            self._fault = ""
            for line in self._lines(process.stdout.fileno()):
                # Of thousands of lines a few are wanted.
                wanted = b"NVRM" in line or b"oom-kill:" in line
                self._take(parse_entry(line) if wanted else None)
        finally:
            process.stdout.close()
            process.kill()
            code = process.wait()
        self._fault = f"{kept_out}; {self._journal[0]} ended with {code}"

    def _lines(self, descriptor: int) -> Iterator[bytes]:
        received = b""
        while self._wait(descriptor):
            content = os.read(descriptor, 65536)
            if not content:
                return
            *lines, received = (received + content).split(b"\n")
            yield from lines

    def _wait(self, descriptor: int) -> bool:
        """Wait for more to read; return whether it is still wanted."""
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        ready.register(self._end, select.POLLIN)
        ready.poll()
        return not self._ended.is_set()

    def _take(self, line: _Line | None) -> None:
        if line is None:
            return
        container = starved(line.message)
        if container is not None and container not in self._starved:
            self._starved.append(container)
        found = parse(line.message)
        if found is None:
            return
        wall, boot, monotonic = self._clocks()
        age = monotonic - line.monotonic_seconds
        number, bus, pid, message = found
        self._told.append(
            Xid(
                number=number,
                pci_bus_id=bus,
                source="kernel",
                pid=pid,
                message=message,
                at=wall - age,
                boot_seconds=boot - age,
            )
        )


def parse(message: str) -> tuple[int, str, int | None, str] | None:
    """
    Return the number, bus id, pid and words of a message that tells an Xid, else None.

    Source: NVIDIA's open kernel modules, nvErrorLog_va and osHandleGpuLost. A message is believed
    from its first character only: what a program calls itself may appear further on.
    """
    told = _XID.match(message)
    if told is not None:
        pid = _PID.search(told[3])
        words = " ".join(told[3].split())[:_MESSAGE_CHARACTERS]
        return int(told[2]), bus_id(told[1]), int(pid[1]) if pid else None, words
    fallen = _FALLEN.match(message)
    if fallen is not None:
        return _FALLEN_XID, bus_id(fallen[1]), None, "GPU has fallen off the bus"
    return None


def starved(message: str) -> str | None:
    """Return the container (id) whose limit of RAM a message says was reached, else None."""
    told = _OOM.match(message)
    return told[1] if told is not None else None


def bus_id(written: str) -> str:
    """Return 0000:06:00 or 0000:06:00.0 as NVML has it, in small letters: 00000000:06:00.0."""
    domain, _, rest = written.lower().rstrip(":.").partition(":")
    return f"{domain:0>8}:{rest if '.' in rest else f'{rest}.0'}"


def parse_record(record: bytes) -> _Line | None:
    """
    Return a record of /dev/kmsg, None for one that is not the kernel's.

    Source: Documentation/ABI/testing/dev-kmsg: `priority,sequence,microseconds,flags;text`, the
    facility being the priority without its lowest three bits, 0 for the kernel alone.
    """
    head, semicolon, rest = record.decode("utf-8", "replace").partition(";")
    fields = head.split(",")
    if not semicolon or len(fields) < 3 or not (fields[0] + fields[2]).isdecimal():
        return None
    if int(fields[0]) >> 3:
        return None
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), rest.partition("\n")[0])
    return _Line(message=text, monotonic_seconds=int(fields[2]) / 1e6)


def parse_entry(line: bytes) -> _Line | None:
    """
    Return an entry of the journal, None for one that is not the kernel's.

    Source: systemd.journal-fields(7); what is written to /dev/kmsg has that transport too, and
    another facility.
    """
    try:
        entry: Any = json.loads(line)
        own = entry["_TRANSPORT"] == "kernel" and entry["SYSLOG_FACILITY"] == "0"
        at = entry.get("_SOURCE_MONOTONIC_TIMESTAMP") or entry["__MONOTONIC_TIMESTAMP"]
        message, seconds = entry["MESSAGE"], int(at) / 1e6
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not own or not isinstance(message, str):
        return None
    return _Line(message=message, monotonic_seconds=seconds)
