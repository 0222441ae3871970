"""One question to NVML, answered with None where there is no answer, and not asked twice then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pynvml

#: The driver, library or card has no such reading, and never will: not asked again.
UNSUPPORTED = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
#: The card is off the bus, or will answer nothing before it is reset.
LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
    }
)
# Source: nvml.h, nvmlValueType_t and the union nvmlValue_t.
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Asker:
    """Asks NVML about cards, and remembers what each of them lacks."""

    def __init__(self) -> None:
        self._unsupported: set[tuple[Any, ...]] = set()

    def ask(self, card: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """
        Return what NVML says, None where it does not.

        What is lacking is remembered by *card*, function and the numbers it is given, which choose
        what to tell. Raises for a lost card only.
        """
        numbers = (each for each in arguments if isinstance(each, int))
        key = (card, function.__name__, *numbers)
        if key in self._unsupported:
            return None
        try:
            return function(*arguments)
        except pynvml.NVMLError as error:
            if error.value in LOST:
                raise
            if error.value in UNSUPPORTED:
                self._unsupported.add(key)
            return None

    def fields(self, card: str, handle: Any, ids: Sequence[int]) -> list[Any]:
        """
        Return the values of these fields in one call; each is checked by itself.

        Source: nvmlDeviceGetFieldValues.
        """
        wanted = [id_ for id_ in ids if (card, "field", id_) not in self._unsupported]
        if not wanted:
            return [None] * len(ids)
        told = self.ask(card, pynvml.nvmlDeviceGetFieldValues, handle, wanted)
        values = {each.fieldId: self._value(card, each) for each in told or ()}
        return [values.get(id_) for id_ in ids]

    def _value(self, card: str, field: Any) -> Any:
        code = field.nvmlReturn
        if code in LOST:
            raise pynvml.NVMLError(code)
        if code in UNSUPPORTED:
            self._unsupported.add((card, "field", field.fieldId))
        if code != pynvml.NVML_SUCCESS or not 0 <= field.valueType < len(_VALUES):
            return None
        return getattr(field.value, _VALUES[field.valueType])


def scaled(value: float | None, factor: float) -> float | None:
    """Return a reading in its base unit."""
    return None if value is None else value * factor


def thousandth(value: float | None) -> float | None:
    """Return milliwatts as watts, millijoules as joules."""
    return None if value is None else value / 1000


def enabled(state: int | None) -> bool | None:
    """Return an nvmlEnableState_t, or any other number that is a yes or no."""
    return None if state is None else bool(state)
