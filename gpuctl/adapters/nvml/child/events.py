"""Xids as NVML tells them: a thread that waits for events of every card registered."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pynvml

from gpuctl.adapters.nvml.child.asking import Asker

#: What says that a card has changed; the numbers of those newer than the binding are in nvml.h.
_TYPES = (
    pynvml.nvmlEventTypeXidCriticalError
    | pynvml.nvmlEventTypeDoubleBitEccError
    | 0x400  # nvmlEventTypeDramRetirementEvent
    | 0x4000  # nvmlEventTypeGpuUnavailableError
    | 0x8000  # nvmlEventTypeGpuRecoveryAction
)
_WAIT_MILLISECONDS = 1000
#: Between two waits that failed at once.
_FAILED_SECONDS = 1.0

Tell = Callable[[dict[str, Any]], None]


class Events:
    """
    The event set of one child; `tell` is called for each Xid, on a thread of its own.

    `stirred` is set by any event: what is known of the cards' health is old then.
    """

    def __init__(self, asker: Asker, tell: Tell) -> None:
        self._asker, self._tell = asker, tell
        self.stirred = threading.Event()
        self._set: Any = None
        self._registered: set[str] = set()
        self._uuids: dict[int | None, str] = {}  # by the address that is the handle

    def follow(self, cards: Mapping[str, Any]) -> None:
        """Register the cards that are not, by UUID and handle; one that was lost counts as new."""
        self._registered &= cards.keys()
        fresh = [uuid for uuid in cards if uuid not in self._registered]
        if not fresh or not self._begun():
            return
        for uuid in fresh:
            # One that is lost in between is registered when it is back.
            with suppress(pynvml.NVMLError):
                self._register(uuid, cards[uuid])

    def _register(self, uuid: str, handle: Any) -> None:
        supported = self._asker.ask(uuid, pynvml.nvmlDeviceGetSupportedEventTypes, handle)
        self._uuids[_address(handle)] = uuid
        # Only of types that a card supports: another makes NVML refuse all of them.
        wanted = (supported or 0) & _TYPES
        if wanted:
            self._asker.ask(uuid, pynvml.nvmlDeviceRegisterEvents, handle, wanted, self._set)
        self._registered.add(uuid)

    def _begun(self) -> bool:
        if self._set is None:
            self._set = self._asker.ask("", pynvml.nvmlEventSetCreate)
            if self._set is not None:
                threading.Thread(target=self._run, name="events", daemon=True).start()
        return self._set is not None

    def _run(self) -> None:
        while True:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, _WAIT_MILLISECONDS)
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    time.sleep(_FAILED_SECONDS)
                continue
            self.stirred.set()
            if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                self._tell(
                    {
                        "number": event.eventData,
                        "gpu": self._uuids.get(_address(event.device), ""),
                        "at": time.time(),
                        "boot_seconds": time.clock_gettime(time.CLOCK_BOOTTIME),
                    }
                )


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
