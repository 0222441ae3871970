"""
The names that vLLM knows of attention backends, quantizations and devices: a variable that says
another is refused, where vLLM itself would say so only once its image is there and started.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Of vLLM, whose names these are.
VERSION = (0, 32)

#: Source: `AttentionBackendEnum` in vllm/v1/attention/backends/registry.py of vLLM 0.32, without
#: those for other hardware (ROCM_…, XPU_…, CPU_…, AMX_…), those that only a model may choose
#: (…_DSV4, …_DSV41) and the tags that are no backend (TORCH_SDPA, NO_ATTENTION).
ATTENTION = (
    *("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION"),
    *("FLASH_ATTN_DIFFKV", "TRITON_ATTN_DIFFKV", "TRITON_FLASH_ATTN", "TRITON_FLASHINFER"),
    *("FLASH_ATTN_MLA", "FLASHMLA", "FLASHINFER_MLA", "TRITON_MLA", "CUTLASS_MLA"),
    *("TOKENSPEED_MLA", "FLASH_ATTN_MLA_SPARSE", "FLASHMLA_SPARSE", "FLASHINFER_MLA_SPARSE"),
    *("FLASHINFER_MLA_SPARSE_SM90", "FLASHINFER_MLA_SPARSE_SM120", "MINIMAX_M3_SPARSE"),
    *("CUTLASS_MSA", "TRITON_MSA", "B12X", "HPC_ATTN", "TURBOQUANT", "ULTRAQUANT", "CUSTOM"),
)
#: What was dropped since 0.14, where the flag began. Source: the same file of vLLM 0.14.
ATTENTION_BEFORE = ("TREE_ATTN",)

#: Source: `QuantizationMethods` in vllm/model_executor/layers/quantization/__init__.py of 0.32.
QUANTIZATIONS = (
    *("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "compressed-tensors"),
    *("fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "fbgemm_fp8", "fp_quant"),
    *("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "mxfp4", "mxfp8"),
    *("gpt_oss_mxfp4", "nvfp4_per_token", "deepseek_v4_fp8", "experts_int8"),
    *("int8_per_channel_weight_only", "moe_wna16", "humming", "inc", "online", "quark", "torchao"),
)
#: What images of earlier versions know besides, on NVIDIA's cards and on the CPU; some are brought
#: back by a plug-in. Source: the same file of vLLM 0.9 to 0.31.
QUANTIZATIONS_BEFORE = (
    *("aqlm", "auto-round", "bitblas", "bitsandbytes", "cpu_awq", "deepspeedfp", "gguf"),
    *("gptq_bitblas", "gptq_marlin_24", "hqq", "ipex", "marlin", "qqq", "rtn"),
)

#: Source: `Device` in vllm/config/device.py of vLLM 0.32, without the hardware (tpu, xpu) that
#: gpuctl looks after none of.
DEVICES = ("auto", "cuda", "cpu")


def suggestion(word: str, known: Iterable[str], others: str = "") -> str:
    """Return a hint: the known name nearest to a word, if one is near, and all of them."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    meant = f"did you mean {names[close[0]]}? " if close else ""
    return f"{meant}vLLM knows {', '.join(names.values())}{others}"
