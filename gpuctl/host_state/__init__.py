"""
Host-state files: a GPU host written down as JSON, text in, `HostState` out.

The simulated host reads them, and so do the tests that put a fake NVML library under the real
binding. `null` or an absent field of a GPU always means "this card does not report it".

`replicas` gives a simulated replica a fault, by name; `FAULTS` has every one of them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from gpuctl.errors import NotFound
from gpuctl.host_state.document import SCHEMA, dump, load, refuse
from gpuctl.host_state.shape import (
    FAULTS,
    RECOVERY_ACTIONS,
    THROTTLE_REASONS,
    Fault,
    GpuState,
    HostState,
    LinkState,
    ProcessState,
    XidState,
    facts,
    health,
    parse_fault,
)

__all__ = [
    "FAULTS",
    "RECOVERY_ACTIONS",
    "SCHEMA",
    "THROTTLE_REASONS",
    "Fault",
    "GpuState",
    "HostState",
    "LinkState",
    "ProcessState",
    "XidState",
    "dump",
    "facts",
    "find",
    "health",
    "load",
    "parse_fault",
    "read",
    "shipped",
]

#: Eight GPUs with their processes are 10 KB; more than this is another file.
_MOST_BYTES = 1024**2


def shipped() -> dict[str, Path]:
    """Return the shipped host-state files by name, sorted."""
    folder = Path(__file__).parents[1] / "data" / "hosts"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def find(name_or_path: str) -> Path:
    """
    Return the file of a shipped host by its name, or the path given.

    Raises:
        NotFound: it is neither; the hint has the nearest shipped name.
    """
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix == ".json":
        return path
    near = difflib.get_close_matches(name_or_path, names, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"the shipped hosts are {', '.join(names)}."
    raise NotFound(f"there is no host {name_or_path!r}", f"{meant} A path needs a / or .json.")


def read(path: Path) -> HostState:
    """
    Return the host of a file.

    Raises:
        UsageError: it cannot be read, or is no host state.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            refuse(str(path), "it is over 1 MiB: that is no host state")
        text = content.decode("utf-8")
    except OSError as error:
        refuse(str(path), error.strerror or str(error))
    except UnicodeDecodeError as error:
        refuse(str(path), f"byte {error.start} is not UTF-8 text")
    except ValueError as error:  # a NUL in the path
        refuse(repr(str(path)), str(error))
    return load(text, source=str(path))
