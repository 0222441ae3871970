"""
The embedded llama.cpp server, `python -m gpuctl.embedded`: what runs where there is no container.

Takes the flags of `llama-server` that the llama.cpp engine emits, and runs llama.cpp's own C++
server out of the wheel `xllamacpp`: the same /health, /metrics and /v1 as the image's.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from gpuctl import __version__

#: How to get what it needs; `demo` says it as well.
INSTALL = "in a clone of gpuctl, `make demo` installs it, and so does pip install '.[demo]'"
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
POOLINGS = ("none", "mean", "cls", "last", "rank")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until SIGTERM or SIGINT.

    Returns:
        1 when it cannot serve, said in one line; a signal ends it with 0, and one that comes while
        the model loads ends it at once (143 in a shell), because the load holds the interpreter.
    """
    flags = parser().parse_args(arguments)
    if not os.path.isfile(flags.model):
        return _fail(f"{flags.model}: there is no such model file")
    try:
        import xllamacpp
    except ImportError:
        return _fail(f"the embedded server needs xllamacpp\nhint: {INSTALL}")
    try:
        # It serves from threads of its own for as long as it is referred to.
        _server = xllamacpp.Server(_parameters(xllamacpp, flags))
    except RuntimeError as error:
        # llama.cpp's log goes to stderr a piece at a time from a thread of its own, which may be
        # in the middle of a line.
        return _fail(f"{flags.model} on {flags.host}:{flags.port}: {error}", before="\n")
    _wait_for_signal()
    _leave()


def parser() -> argparse.ArgumentParser:
    """Return the flags: those of `llama-server` that the llama.cpp engine may emit."""
    made = argparse.ArgumentParser(
        prog="python -m gpuctl.embedded",
        description="llama.cpp's server, embedded; the flags are llama-server's.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--version", action="version", version=f"gpuctl {__version__}")
    add("-m", "--model", required=True, help="GGUF file")
    add("-a", "--alias", help="model name in responses")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080)
    add("-c", "--ctx-size", type=int, default=0, help="tokens over all slots; 0: the model's")
    add("-np", "--parallel", type=int, default=1, help="slots")
    add("-ngl", "--n-gpu-layers", type=int, default=0)
    add("-ts", "--tensor-split", type=_shares, default=(), help="layers of each GPU: 1,1")
    add("-b", "--batch-size", type=int)
    add("-ub", "--ubatch-size", type=int)
    add("-t", "--threads", type=int)
    add("-fa", "--flash-attn", choices=("on", "off", "auto"), default="auto")
    add("-ctk", "--cache-type-k", choices=CACHE_TYPES, default="f16")
    add("-ctv", "--cache-type-v", choices=CACHE_TYPES, default="f16")
    add("-cram", "--cache-ram", type=int, default=0, help="prompt cache in MiB")
    add("--embeddings", action="store_true")
    add("--rerank", action="store_true")
    add("--pooling", choices=POOLINGS)
    add("--metrics", action="store_true")
    add("--offline", action="store_true")
    return made


def _parameters(xllamacpp: ModuleType, flags: argparse.Namespace) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = flags.model
    parameters.model_alias = {flags.alias} if flags.alias else set()
    parameters.hostnames = [flags.host]
    parameters.port = flags.port
    parameters.n_ctx = flags.ctx_size
    parameters.n_parallel = flags.parallel
    parameters.n_gpu_layers = flags.n_gpu_layers
    # As many as llama.cpp has room for; all of them 0 is its own default.
    rest = len(parameters.tensor_split) - len(flags.tensor_split)
    parameters.tensor_split = [*flags.tensor_split, *[0.0] * rest]
    parameters.n_batch = flags.batch_size or parameters.n_batch
    parameters.n_ubatch = flags.ubatch_size or parameters.n_ubatch
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = flags.threads or threads.n_threads
    parameters.flash_attn_type = _flash_attention(xllamacpp, flags.flash_attn)
    parameters.cache_type_k = _cache_type(xllamacpp, flags.cache_type_k)
    parameters.cache_type_v = _cache_type(xllamacpp, flags.cache_type_v)
    parameters.cache_ram_mib = flags.cache_ram
    parameters.embedding = flags.embeddings or flags.rerank
    pooling = "rank" if flags.rerank else flags.pooling
    if pooling:
        kinds = xllamacpp.llama_pooling_type
        parameters.pooling_type = kinds[f"LLAMA_POOLING_TYPE_{pooling.upper()}"]
    parameters.endpoint_metrics = flags.metrics
    parameters.offline = flags.offline
    # Every size is given, so there is nothing to fit, and loading takes half the time (0.17 s
    # instead of 0.31 s for a 98 MB model, 2026-11-21, two cores).
    parameters.fit_params = False
    return parameters


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _flash_attention(xllamacpp: ModuleType, word: str) -> Any:
    name = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[word]
    return xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{name}"]


def _cache_type(xllamacpp: ModuleType, word: str) -> Any:
    return xllamacpp.ggml_type[f"GGML_TYPE_{word.upper()}"]


def _wait_for_signal() -> None:
    """Return when SIGTERM or SIGINT has come, whichever thread the kernel gave it to."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    os.read(read_end, 1)


def _leave() -> NoReturn:
    """Exit at once: the server's destructor would wait for the batch being computed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(message: str, before: str = "") -> int:
    sys.stderr.write(f"{before}error: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
