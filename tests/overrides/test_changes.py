"""What the environment says makes the same container as the same words in the profile."""

from __future__ import annotations

import pytest

from gpuctl import overrides, profile
from gpuctl.model import Workload
from gpuctl.overrides import changes
from gpuctl.plugin import load_engines

ENGINES = load_engines()

HEAD = """\
schema = 1
[host]
name = "rig"
gpus = "4x"
[workloads.llm]
engine = "vllm"
image = "vllm/vllm-openai:v0.33.0"
port = 8000
gpus = [[0, 1]]
"""


def read(text: str) -> Workload:
    return profile.loads(HEAD + text, "p.toml", engines=ENGINES).workloads[0]


@pytest.mark.parametrize(
    ("written", "environment", "instead"),
    [
        pytest.param('model = "a"', {"MODEL_NAME": "b"}, 'model = "b"', id="model"),
        pytest.param(
            'model = "a"', {"MAX_MODEL_LEN": "4096"}, 'model = "a"\ncontext = 4096', id="context"
        ),
        pytest.param(
            'model = "a"\nparallel = 4\noptions = { max_num_seqs = 8 }',
            {"MAX_NUM_SEQS": "auto"},
            'model = "a"\noptions = {}',
            id="by the card",
        ),
        pytest.param(
            'model = "a"',
            {
                "GPU_MEMORY_UTILIZATION": "0.8",
                "MAX_NUM_BATCHED_TOKENS": "2048",
                "ENABLE_CHUNKED_PREFILL": "true",
                "SWAP_SPACE_GB": "4",
                "QUANTIZATION": "awq",
                "VLLM_ATTENTION_BACKEND": "FLASHINFER",
            },
            'model = "a"\noptions = { gpu_memory_utilization = 0.8, max_num_batched_tokens = 2048,'
            " enable_chunked_prefill = true, kv_offloading_gib = 8.0,"
            ' quantization = "awq", attention_backend = "FLASHINFER" }',
            id="options",
        ),
        pytest.param(
            'model = "a"',
            {"HF_TOKEN_FILE": "/t", "HF_HUB_OFFLINE": "1", "NCCL_DEBUG": "INFO"},
            'model = "a"\nenvironment = { HF_TOKEN = { file = "/t" }, HF_HUB_OFFLINE = "1",'
            ' NCCL_DEBUG = "INFO" }',
            id="environment",
        ),
        pytest.param(
            'model = "a"\nmounts = ["/x:/x:ro"]',
            {"MODEL_CACHE_DIR": "/srv/hf"},
            'model = "a"\nmounts = ["/x:/x:ro", "/srv/hf:/root/.cache/huggingface"]',
            id="mounts",
        ),
    ],
)
def test_the_same_words(written: str, environment: dict[str, str], instead: str) -> None:
    """The workload is equal, and so is what its digest is made over."""
    before = profile.loads(HEAD + written, "p.toml", engines=ENGINES)
    assert overrides.apply(before, environment).profile.workloads[0] == read(instead)


@pytest.mark.parametrize(
    ("gpus", "count"),
    [
        pytest.param("none", 0, id="on the CPU"),
        pytest.param("each", 1, id="one on each"),
        pytest.param(((0,), (1,)), 1, id="one by one"),
        pytest.param(((0,), (1, 2, 3)), 3, id="the largest"),
    ],
)
def test_a_group(gpus: object, count: int) -> None:
    """A replica takes as many GPUs as its group has."""
    workload = Workload(name="w", engine="vllm", port=1, gpus=gpus)  # type: ignore[arg-type]
    assert changes.group(workload) == count
