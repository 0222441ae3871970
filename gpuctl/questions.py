"""
What an engine with OpenAI's API is asked to find out whether it computes: a canary of one token
once in a while, and warm-up requests before it serves. Data for a ProbeSpec; nothing is asked here.
"""

from __future__ import annotations

import json
from dataclasses import replace

from gpuctl.model import ProbeSpec

#: A prompt of some tokens is computed in one go, and each token after it by itself: other kernels.
_WARMUP_PROMPT = "One two three four five six seven eight nine ten."
_WARMUP_TOKENS = 2


def added(spec: ProbeSpec, *, kind: str, model: str) -> ProbeSpec:
    """
    Return *spec* with the questions that a workload of this kind can answer.

    `/v1/completions` needs no chat template, which a model may lack. Embeddings are warmed up, and
    have no canary: a forward pass of theirs costs what a request costs. The rest is asked nothing.
    """
    match kind:
        case "chat":
            asked = {"model": model, "temperature": 0}
            prompted = {"prompt": _WARMUP_PROMPT, "max_tokens": _WARMUP_TOKENS}
            return replace(
                spec,
                canary_path="/v1/completions",
                canary_body=json.dumps(asked | {"prompt": "1", "max_tokens": 1}),
                warmup_path="/v1/completions",
                warmup_body=json.dumps(asked | prompted),
            )
        case "embedding":
            return replace(
                spec,
                warmup_path="/v1/embeddings",
                warmup_body=json.dumps({"model": model, "input": _WARMUP_PROMPT}),
            )
        case _:
            return spec
