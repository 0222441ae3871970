"""What an engine with OpenAI's API is asked, by the kind of its model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import ProbeSpec
from gpuctl.questions import added

BARE = ProbeSpec(port=8000, health_path="/health", warmup_requests=2)
PROMPT = "One two three four five six seven eight nine ten."


@pytest.mark.parametrize(
    ("kind", "paths", "bodies"),
    [
        pytest.param(
            "chat",
            {"canary_path": "/v1/completions", "warmup_path": "/v1/completions"},
            {
                "canary_body": {"model": "m", "temperature": 0, "prompt": "1", "max_tokens": 1},
                "warmup_body": {"model": "m", "temperature": 0, "prompt": PROMPT, "max_tokens": 2},
            },
            id="chat",
        ),
        pytest.param(
            "embedding",
            {"warmup_path": "/v1/embeddings"},
            {"warmup_body": {"model": "m", "input": PROMPT}},
            id="embedding",
        ),
        pytest.param("transcription", {}, {}, id="any-other"),
    ],
)
def test_each_kind_is_asked_what_it_can_answer(
    kind: str, paths: dict[str, str], bodies: dict[str, Any]
) -> None:
    """A chat one token and a prompt of some; an embedding a warm-up alone; the rest nothing."""
    texts: dict[str, Any] = {name: json.dumps(body) for name, body in bodies.items()}
    assert added(BARE, kind=kind, model="m") == replace(BARE, **(texts | paths))
