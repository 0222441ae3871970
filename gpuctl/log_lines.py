"""What an engine wrote → lines that are safe to show and to store. Pure; for every runtime."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gpuctl import masking, printable

#: Longer lines are cut: evidence is kept in every Event.
LINE_CHARACTERS = 2000

#: Colours carry nothing that an operator needs, so they go without a trace.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Words for VRAM that ran out. Sources: ggml-cuda.cu of llama.cpp ("cudaMalloc failed: out of
#: memory"), PyTorch's CUDACachingAllocator ("CUDA out of memory."), cudaGetErrorString of CUDA.
_CUDA_OOM = re.compile(
    r"CUDA out of memory|cudaMalloc failed: out of memory|CUDA error:? out of memory"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED"
)


def cuda_oom(found: Iterable[str]) -> str:
    """Return the last of these lines that tells of VRAM that ran out, "" where none does."""
    return next((each for each in reversed(tuple(found)) if _CUDA_OOM.search(each)), "")


def line(raw: bytes) -> str:
    """Return one line of output: its secrets hidden, control characters escaped, not too long."""
    # A carriage return that ends the line is Windows' or a progress bar's, not text.
    text = _COLOUR.sub("", raw.decode("utf-8", "replace").rstrip("\r"))
    text = masking.text(text)
    # Cut before escaping, and again after it: an escape is up to six characters.
    safe = printable.line(text[: LINE_CHARACTERS + 1])
    return safe if len(safe) <= LINE_CHARACTERS else safe[: LINE_CHARACTERS - 1] + "…"


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield whole lines as *chunks* complete them, and the unfinished last one at the end."""
    pending = b""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        yield from (line(raw) for raw in whole)
        # A line without an end must not grow for ever.
        pending = pending[: LINE_CHARACTERS * 4 + 4]
    if pending:
        yield line(pending)
