"""
What one variable changes of one workload: a Workload and the variable's text in, a Workload out.

A change is made as if the profile had said so, in `intent` too, so that the same words in the
environment and in the profile make the same container. Each raises ValueError("what; hint").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from gpuctl.model import Mount, Workload
from gpuctl.overrides import names
from gpuctl.quantities import parse_seconds

Change = Callable[[Workload, str], Workload]

HUGGING_FACE = "/root/.cache/huggingface"

#: What vLLM's attention backends were called before they were renamed or dropped. Torch's SDPA and
#: xFormers served the cards that FlashAttention does not, as Triton's does today.
OLD_ATTENTION = {"TORCH_SDPA": "TRITON_ATTN", "SDPA": "TRITON_ATTN", "XFORMERS": "TRITON_ATTN"}
#: The end of such a name while there were two engines in vLLM, 0.8 to 0.10.
_OF_V1 = "_VLLM_V1"
#: Where a name goes that only a plug-in of the image brings.
_PLUG_IN = ' (what a plug-in brings goes in the profile: options = {{ {0} = "…" }})'

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def option(name: str, read: Callable[[str], Any]) -> Change:
    """Return a change of one option of the engine."""
    return lambda workload, text: _with_option(workload, name, read(text))


def variable(name: str, read: Callable[[str], str] = str) -> Change:
    """Return a change of one variable of the container."""

    def change(workload: Workload, text: str) -> Workload:
        value = read(text)
        environment = {**workload.environment, name: value}
        return _as_written(replace(workload, environment=environment), ("environment", name), value)

    return change


def secret(name: str) -> Change:
    """Return a change that hands a file on as a secret."""

    def change(workload: Workload, text: str) -> Workload:
        file = absolute(text)
        changed = replace(workload, secrets={**workload.secrets, name: file})
        return _as_written(changed, ("environment", name), {"file": file})

    return change


def sequences(workload: Workload, text: str) -> Workload:
    """
    Set max_num_seqs; `auto` leaves it to the card, above what the profile says.

    On the CPU there is no card to leave it to, and what the profile says stays.
    """
    if text.lower() != "auto":
        return _with_option(workload, "max_num_seqs", count(text, "auto, or a number above 0"))
    if group(workload) == 0:
        return workload
    changed = _without_option(replace(workload, parallel=1), "max_num_seqs")
    return _as_written(changed, ("parallel",), None)


def context(workload: Workload, text: str) -> Workload:
    tokens = count(text)
    return _as_written(replace(workload, context=tokens), ("context",), tokens)


def quantization(workload: Workload, text: str) -> Workload:
    """Set the quantization; `none` leaves it to the model."""
    if text.lower() == "none":
        return _without_option(workload, "quantization")
    known = ("none", *names.QUANTIZATIONS, *names.QUANTIZATIONS_BEFORE)
    if text not in known:
        hint = names.suggestion(text, known, _PLUG_IN.format("quantization"))
        raise ValueError(f"{text!r} is no quantization that vLLM knows; {hint}")
    return _with_option(workload, "quantization", text)


def attention(workload: Workload, text: str) -> Workload:
    """Set the attention backend by today's name; `AUTO` leaves it to the card."""
    name = text.upper().removesuffix(_OF_V1)
    if name == "AUTO":
        return _without_option(workload, "attention_backend")
    name = OLD_ATTENTION.get(name, name)
    if name not in (*names.ATTENTION, *names.ATTENTION_BEFORE):
        known = ("AUTO", *names.ATTENTION, *names.ATTENTION_BEFORE)
        hint = names.suggestion(name, known, _PLUG_IN.format("attention_backend"))
        raise ValueError(
            f"{text!r} is no attention backend that vLLM has for NVIDIA's GPUs; {hint}"
        )
    return _with_option(workload, "attention_backend", name)


def swap_space(workload: Workload, text: str) -> Workload:
    """
    Set the host RAM for KV blocks; 0 means none.

    It was counted for each GPU, and is counted over all of a replica's today.
    """
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 1e6:
        raise ValueError(f"{text!r} is no number of GiB; write 0 for none")
    if gib == 0:
        return _without_option(workload, "kv_offloading_gib")
    return _with_option(workload, "kv_offloading_gib", gib * group(workload))


def model(workload: Workload, text: str) -> Workload:
    return _as_written(replace(workload, model=text), ("model",), text)


def model_cache(workload: Workload, text: str) -> Workload:
    """Mount a directory of the host where the hub's models are kept."""
    own = Mount(source=absolute(text), target=HUGGING_FACE)
    others = tuple(m for m in workload.mounts if m.target.rstrip("/") != HUGGING_FACE)
    mounts = (*others, own)
    written = [asdict(mount) for mount in mounts]
    return _as_written(replace(workload, mounts=mounts), ("mounts",), written)


def group(workload: Workload) -> int:
    """Return how many GPUs one replica takes: the most, where groups differ."""
    if isinstance(workload.gpus, str):
        return 0 if workload.gpus == "none" else 1
    return max((len(names) for names in workload.gpus), default=1)


def count(text: str, wanted: str = "a number above 0") -> int:
    """Return a number of things."""
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not {wanted}; write digits")
    return int(text)


def seconds(text: str) -> float:
    """Return digits as the seconds they have always meant in these variables."""
    try:
        number = float(text)
    except ValueError:
        return parse_seconds(text)
    return parse_seconds(number)


def share(text: str) -> float:
    """Return a share of a GPU's memory."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if wrong := wrong_share(found):
        raise ValueError(f"{text!r} {wrong}")
    return found


def wrong_share(share: float) -> str:
    """
    Return what is wrong with a share of a GPU's memory as `what; hint`, "" where it is one.

    vLLM takes it of the card's whole memory, and does not start where less than that is free: its
    own CUDA context is there by then. Source: `request_memory` in vllm/v1/worker/utils.py of 0.32.
    """
    hint = "write a number above 0 and below 1: the usual one is 0.9"
    if share == 1:
        return (
            "is the whole of a card, which is never free: the driver and vLLM's own CUDA context"
            f" hold a part of it, and it would not start; {hint}"
        )
    return "" if 0 < share < 1 else f"is no share of a card's memory; {hint}"


def switch(text: str) -> bool:
    """Return whether a switch is on."""
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"{text!r} is neither true nor false; write one of them")
    return text.lower() in _TRUE


def absolute(text: str) -> str:
    """Return a path, from the root."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path; begin it with /")
    return text


def _with_option(workload: Workload, name: str, value: Any) -> Workload:
    changed = replace(workload, options={**workload.options, name: value})
    return _as_written(changed, ("options", name), value)


def _without_option(workload: Workload, name: str) -> Workload:
    options = {key: value for key, value in workload.options.items() if key != name}
    return _as_written(replace(workload, options=options), ("options", name), None)


def _as_written(workload: Workload, path: tuple[str, ...], value: Any) -> Workload:
    """Return the workload with a value in its intent too; `None` takes it out."""
    intent = json.loads(workload.intent)
    text = json.dumps(
        _put(intent, path, value), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return replace(workload, intent=text)


def _put(table: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    key, *rest = path
    inner = _put(table.get(key, {}), tuple(rest), value) if rest else value
    found = {name: item for name, item in table.items() if name != key}
    # A table with nothing in it is as one that was not written, unless it was.
    empty = inner is None or (inner == {} and key not in table)
    return found if empty else {**found, key: inner}
