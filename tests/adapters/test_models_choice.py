"""Which files of a repository a name means."""

from __future__ import annotations

import pytest

from gpuctl.adapters.models.choice import (
    HubFile,
    chosen,
    missing_parts,
    quantization,
    split_parts,
)
from gpuctl.errors import NotFound, UsageError

PARTS = tuple(f"Q8_0/big-Q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3))
GGUF = ("README.md", "m-Q4_K_M.gguf", "m-Q4_K.gguf", "m.IQ2_XXS.gguf", *PARTS, "mmproj-F16.gguf")
WEIGHTS = (
    "config.json", "model-1.safetensors", "model-2.safetensors", "pytorch_model.bin",
    "tokenizer.model", "original/consolidated.pth", "original/params.json", "onnx/model.onnx",
)  # fmt: skip


def files(*paths: str) -> tuple[HubFile, ...]:
    return tuple(HubFile(path=path, size_bytes=1024**2) for path in paths)


def names(paths: tuple[str, ...], quantization: str = "", pattern: str = "") -> list[str]:
    found = chosen(files(*paths), repository="o/n", quantization=quantization, pattern=pattern)
    return [file.path for file in found]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("m-Q4_K_M.gguf", "Q4_K_M", id="after a dash"),
        pytest.param("m.q4_k_m.gguf", "Q4_K_M", id="after a dot, small letters"),
        pytest.param("UD-Q4_K_XL/m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", id="dynamic"),
        pytest.param("m-IQ2_XXS.gguf", "IQ2_XXS", id="i-quant"),
        pytest.param("BF16/m-BF16-00001-of-00002.gguf", "BF16", id="in parts"),
        pytest.param("m-MXFP4_MOE.gguf", "MXFP4_MOE", id="mxfp4"),
        pytest.param("Q4_0.gguf", "Q4_0", id="nothing else"),
        pytest.param("ggml-model.gguf", "", id="none told"),
        pytest.param("FAQ4_0.gguf", "", id="the end of a word"),
    ],
)
def test_a_name_tells_its_quantization(path: str, expected: str) -> None:
    """It is the last word of the name, without the numbers of parts."""
    assert quantization(path) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param("Q4_K_M", ["m-Q4_K_M.gguf"], id="as it is written"),
        pytest.param("q4_k_m", ["m-Q4_K_M.gguf"], id="in small letters"),
        pytest.param("Q4_K", ["m-Q4_K.gguf"], id="not the longer one"),
        pytest.param("IQ2_XXS", ["m.IQ2_XXS.gguf"], id="after a dot"),
        pytest.param("Q8_0", list(PARTS), id="all parts of a split one"),
    ],
)
def test_a_quantization_picks_its_model(wanted: str, expected: list[str]) -> None:
    """Every file of the one model that has it, and of no other."""
    assert names(GGUF, wanted) == expected


def test_a_repository_of_one_gguf_needs_no_quantization() -> None:
    """A projector beside it is no second model."""
    assert names(("m.gguf", "mmproj-F16.gguf", "README.md")) == ["m.gguf"]


def test_weights_are_taken_once() -> None:
    """safetensors and what an engine reads beside them: no second copy in another format."""
    assert names(WEIGHTS) == [
        "config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.model",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (
            ("config.json", "consolidated.safetensors", "model.safetensors"),
            ["config.json", "model.safetensors"],
        ),
        (("params.json", "consolidated.safetensors"), ["params.json", "consolidated.safetensors"]),
    ],
    ids=["both", "its maker's alone"],
)
def test_a_second_layout_of_the_weights_is_left_out(
    paths: tuple[str, ...], expected: list[str]
) -> None:
    """Mistral's repositories have theirs beside the common one: as many bytes again."""
    assert names(paths) == expected


def test_old_weights_are_taken_where_there_are_no_others() -> None:
    """A repository of before safetensors."""
    assert names(("config.json", "pytorch_model.bin", "x.onnx")) == [
        "config.json", "pytorch_model.bin",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("*.md", ["README.md"], id="by the name"),
        pytest.param("Q8_0/*-00002-*", list(PARTS), id="a part brings the others"),
        pytest.param("mmproj*", ["mmproj-F16.gguf"], id="a projector"),
    ],
)
def test_a_pattern_picks_files(pattern: str, expected: list[str]) -> None:
    """A pattern of the shell, for a path or for its last part."""
    assert names(GGUF, pattern=pattern) == expected


def test_a_pattern_that_matches_nothing() -> None:
    """Small letters are other letters; the hint has what there is."""
    with pytest.raises(NotFound, match=r"o/n has no file that matches 'm-q4_k\.gguf'") as raised:
        names(GGUF, pattern="m-q4_k.gguf")
    assert raised.value.hint == f"it has {', '.join(GGUF)}"


@pytest.mark.parametrize(
    ("paths", "wanted", "error", "message", "hint"),
    [
        pytest.param(
            ("a-Q4_0.gguf", "b-Q8_0.gguf"), "", UsageError,
            "o/n has several models: Q4_0 (1 MiB), Q8_0 (1 MiB)",
            "name one, as o/n:Q4_0", id="several, none named",
        ),
        pytest.param(
            ("a-Q4_0.gguf", "b-Q4_0.gguf"), "Q4_0", UsageError,
            "o/n has several models that match Q4_0: Q4_0 (1 MiB), Q4_0 (1 MiB)",
            "name one with --file", id="several match",
        ),
        pytest.param(
            ("a-Q4_0.gguf", "b.gguf"), "Q5_0", NotFound,
            "o/n has no GGUF file of quantization Q5_0",
            "it has Q4_0 (1 MiB), b (1 MiB)", id="none matches",
        ),
        pytest.param(
            WEIGHTS, "Q5_0", NotFound,
            "o/n has no GGUF file", "leave out the part after the colon", id="no GGUF at all",
        ),
        pytest.param(
            PARTS[:2], "Q8_0", NotFound, f"o/n lacks {PARTS[2]}",
            "the repository is not complete: choose another, or another --revision",
            id="a part is lacking",
        ),
        pytest.param(
            ("README.md",), "", NotFound,
            "o/n has no weights: neither GGUF nor .safetensors nor .bin",
            "it has README.md; name some with --file", id="no model",
        ),
        pytest.param(
            (), "", NotFound, "o/n has no weights: neither GGUF nor .safetensors nor .bin",
            "it has nothing; name some with --file", id="empty",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_is_listed(
    paths: tuple[str, ...], wanted: str, error: type[Exception], message: str, hint: str
) -> None:
    """An error tells what there is to choose from."""
    with pytest.raises(error) as raised:
        names(paths, wanted)
    assert (str(raised.value), getattr(raised.value, "hint", "")) == (message, hint)


def test_a_long_list_is_cut() -> None:
    """A repository of a hundred files does not fill the screen."""
    with pytest.raises(NotFound) as raised:
        names(tuple(f"{n}.md" for n in range(100)), pattern="x")
    assert raised.value.hint.endswith("39.md and 60 more")


def test_two_choices_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="both choose"):
        names(GGUF, "Q4_K", "*.gguf")


def test_parts_are_known_by_their_names() -> None:
    """llama.cpp's own scheme; whatever else is one file."""
    assert split_parts(PARTS[1]) == PARTS
    assert split_parts("a.gguf") == ("a.gguf",)
    assert missing_parts(PARTS[0], PARTS[:1]) == PARTS[1:]
    assert missing_parts("a.gguf", ()) == ("a.gguf",)


def test_a_content_is_called_by_its_sum() -> None:
    """The cache knows a large file by its SHA-256, and a small one by git's id."""
    assert HubFile(path="a", size_bytes=1, sha256="s", blob_id="b").etag == "s"
    assert HubFile(path="a", size_bytes=1, blob_id="b").etag == "b"
