"""Answers each line with every GPU; what is asked of NVML comes in tiers."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pynvml

from gpuctl.adapters.nvml.child.ageing import age
from gpuctl.adapters.nvml.child.asking import LOST, Asker
from gpuctl.adapters.nvml.child.events import Events, Tell
from gpuctl.adapters.nvml.child.knowing import driver, identify, know, link
from gpuctl.adapters.nvml.child.measuring import measure

#: Of no single card: the library or the driver under all of them.
_DRIVER = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
#: A card that came back is seen only by a new nvmlInit: with one lost, this process ends at that
#: age and another takes its place.
_LOST_SECONDS = 60.0
#: What ages slowly is read again after this, or at the next reading once an event was told.
_HEALTH_SECONDS = 60.0


class Reader:
    """What is known of the cards between two readings: who they are, what they lack, how old."""

    def __init__(self, tell: Tell) -> None:
        self._asker = Asker()
        self._events = Events(self._asker, tell)
        self._driver: dict[str, Any] | None = None
        self._identities: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._links: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._health: dict[str, tuple[float, dict[str, Any]]] = {}
        self._places: dict[int, str] = {}  # index → UUID, of lost ones where they were last

    def read(self) -> list[dict[str, Any]]:
        """
        Return every GPU in NVML's order, a lost one with its index only.

        Lost is whatever card cannot be asked for its identity: a sick one is told by
        NVML_ERROR_UNKNOWN as often as by GPU_IS_LOST, and must not hide the others. Raises for a
        failure of the driver, which is what it is when no card answers and none is lost for sure.
        Source: nvmlDeviceGetCount_v2; `nvidia-smi --query-gpu=index`.
        """
        if self._events.stirred.is_set():
            self._events.stirred.clear()
            self._health.clear()
        gpus: list[dict[str, Any]] = []
        cards: dict[str, Any] = {}
        errors: list[pynvml.NVMLError] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpus.append(self._gpu(index, cards))
            except pynvml.NVMLError as error:
                if error.value in _DRIVER:
                    raise
                errors.append(error)
                gpus.append({"index": index, "lost": True})
        if errors and len(errors) == len(gpus) and not any(e.value in LOST for e in errors):
            raise errors[0]
        self._events.follow(cards)
        self._places = {
            index: gpu.get("uuid") or self._places[index]
            for index, gpu in enumerate(gpus)
            if "uuid" in gpu or self._places.get(index, "") not in ("", *cards)
        }
        return [self._with_facts(gpu, cards) for gpu in gpus]

    def _gpu(self, index: int, cards: dict[str, Any]) -> dict[str, Any]:
        """Return one card without its facts, and put its handle among the *cards*."""
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        if uuid not in self._facts:
            self._identities[uuid] = identify(self._asker, handle, uuid)
            self._facts[uuid] = know(self._asker, handle, uuid)
        measured = measure(self._asker, handle, uuid)
        health = self._aged(handle, uuid, measured["utilization"])
        cards[uuid] = handle
        return {"index": index, **self._identities[uuid], **measured, "health": health}

    def _aged(self, handle: Any, uuid: str, utilization: int | None) -> dict[str, Any]:
        read_at, health = self._health.get(uuid, (float("-inf"), {}))
        if time.monotonic() - read_at >= _HEALTH_SECONDS:
            health = age(self._asker, handle, uuid, utilization)
            self._health[uuid] = (time.monotonic(), health)
        return health

    def _with_facts(self, gpu: dict[str, Any], cards: dict[str, Any]) -> dict[str, Any]:
        if "lost" in gpu:
            return gpu
        if self._driver is None:
            self._driver = driver(self._asker)
        uuid = gpu["uuid"]
        others = [other for other in self._places.values() if other != uuid]
        peers = [self._link(uuid, other, cards) for other in others]
        known = [peer for peer in peers if peer is not None] or None
        return {**gpu, "facts": {**self._driver, **self._facts[uuid], "peers": known}}

    def _link(self, uuid: str, other: str, cards: dict[str, Any]) -> dict[str, Any] | None:
        pair = (uuid, other)
        if pair not in self._links and other in cards:
            # One of them may be lost just now: the next reading says so.
            with suppress(pynvml.NVMLError):
                self._links[pair] = link(self._asker, (uuid, cards[uuid]), (other, cards[other]))
        return self._links.get(pair)


def main() -> None:
    """Answer each line until there are no more, NVML fails, or a lost card needs a new start."""
    answers = _keep_stdout()
    writing = threading.Lock()

    def tell(document: dict[str, Any]) -> None:
        with writing:
            _write(answers, document)

    began, reader = time.monotonic(), Reader(lambda xid: tell({"xid": xid}))
    initialised = False
    while sys.stdin.readline():
        at, boot_seconds = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            if not initialised:
                pynvml.nvmlInit()
                initialised = True
            gpus = reader.read()
        except pynvml.NVMLError as error:
            tell({"error": error.value, "message": str(error)})
            return
        tell({"gpus": gpus, "at": at, "boot_seconds": boot_seconds})
        lost = any("lost" in gpu for gpu in gpus)
        if lost and time.monotonic() - began > _LOST_SECONDS:
            return


def _keep_stdout() -> int:
    """Return a descriptor for the answers; what the driver's library prints goes nowhere."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _write(descriptor: int, document: dict[str, Any]) -> None:
    content = json.dumps(document).encode() + b"\n"
    while content:
        content = content[os.write(descriptor, content) :]
