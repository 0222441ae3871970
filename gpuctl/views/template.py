"""A first profile for the GPUs of a host: `init` writes it, its owner edits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gpuctl.model import GpuIdentity

#: CUDA 13 has dropped GPUs below compute capability 7.5; images built on CUDA 12 still run there.
#: Source: CUDA 13.0 release notes, "Deprecated architectures".
_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"

_TEMPLATE = """\
# Written by `gpuctl init` for the GPUs found on this host. Edit what is marked, then:
#   gpuctl check {path}    every mistake at once
#   gpuctl plan {path}     what would run where
#   gpuctl up {path}       run it
schema = 1

[host]
name = "{name}"
gpus = [{gpus}]  # what must be there: a GPU that is gone is noticed
reserve = []  # indexes of GPUs to keep free for failover

[watchdog]
interval = "5s"  # between two looks at everything; a death is noticed at once
health_timeout = "5s"

[workloads.chat]
engine = "llama.cpp"  # llama.cpp | llama-cpp-python | vllm | container
image = "{image}"
model = "model.gguf"  # EDIT: a file in the directory mounted at /models
mounts = ["/var/lib/gpuctl/models:/models:ro"]  # EDIT: where your models are
gpus = "each"  # one replica per GPU; or [0, 1]; or [[0, 1]] for one replica on two
port = 8081  # replica i listens on 8081 + i, on loopback
context = 4096  # tokens, for each request
parallel = 1  # requests at once, on one replica
memory = "4g"  # host RAM of each container; VRAM is planned apart

[gateway]
listen = "127.0.0.1:4000"
"""


def profile(gpus: Sequence[GpuIdentity], *, name: str, path: str) -> str:
    """Return the text of a profile that runs one replica on each GPU."""
    counts = Counter(model(gpu) for gpu in gpus)
    expected = ", ".join(f'"{count}x {kind}"' for kind, count in counts.items())
    return _TEMPLATE.format(name=name, path=path, gpus=expected, image=_IMAGE)


def model(gpu: GpuIdentity) -> str:
    """Return a GPU's name as a profile writes it: `P106-100` for `NVIDIA P106-100`."""
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
