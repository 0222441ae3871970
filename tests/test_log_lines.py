"""What a program writes is made safe before anyone sees it."""

from __future__ import annotations

import pytest

from gpuctl import log_lines


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        pytest.param(b"plain \xc3\xa4\ttab", "plain ä\ttab", id="text"),
        pytest.param(b"\x1b[1;31mred\x1b[0m", "red", id="colour"),
        pytest.param(b"\x1b]0;title\x07", "\\x1b]0;title\\x07", id="terminal-title"),
        pytest.param(b"50%\r100%\r", "50%\\x0d100%", id="progress-bar"),
        pytest.param(b"\xff\xfe", "��", id="not-utf-8"),
        pytest.param("a\u2028b\u202ec".encode(), "a\\u2028b\\u202ec", id="forged-line"),
        pytest.param(b"args: --api-key sk-1", "args: --api-key ********", id="secret"),
        pytest.param(b"x" * 5000, "x" * 1999 + "…", id="too-long"),
        pytest.param(b"\0" * 1500, ("\\x00" * 500)[:1999] + "…", id="too-long-when-escaped"),
    ],
)
def test_a_line_of_output_is_safe_to_show(raw: bytes, line: str) -> None:
    """No output moves the cursor, forges a line, fills a page or tells a secret flag's value."""
    assert log_lines.line(raw) == line


def test_lines_are_put_together_from_chunks() -> None:
    """A line may come in pieces; the last needs no end."""
    assert list(log_lines.lines([b"on", b"e\ntwo\n", b"", b"three"])) == ["one", "two", "three"]


def test_an_endless_line_is_bounded() -> None:
    """A program that never ends its line costs no memory without end."""
    chunks = (b"x" * 10_000 for _ in range(100))
    assert list(log_lines.lines(chunks)) == ["x" * 1999 + "…"]


@pytest.mark.parametrize(
    "words",
    [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4465.00 MiB on device 0: "
        "cudaMalloc failed: out of memory",
        "CUDA error: out of memory",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_running_out_of_vram_is_recognized(words: str) -> None:
    """As llama.cpp, PyTorch and CUDA itself say it; the last line that does is what is told."""
    assert log_lines.cuda_oom(["CUDA out of memory: the first", words, "Killed"]) == words


def test_other_ends_are_no_lack_of_vram() -> None:
    """Nor is the kernel's OOM killer, which is about RAM."""
    assert log_lines.cuda_oom(["Out of memory: Killed process 7 (python3)", "CUDA error 999"]) == ""
    assert log_lines.cuda_oom([]) == ""
