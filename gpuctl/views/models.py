"""Model files: what is here, what one is, and where it fits. Documents in, renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from gpuctl.views import words
from gpuctl.views.tables import Columns


class ModelRow(TypedDict):
    """One model of `models list --json`; `None` is what its files do not tell."""

    name: str
    path: str
    format: str | None  # gguf, safetensors, config
    architecture: str | None
    quantization: str | None
    parameters: int | None
    size_bytes: int
    workloads: list[str]
    complete: bool
    problem: str | None


class Need(TypedDict):
    """What one context takes, of however many GPUs."""

    context: int
    weights_bytes: int
    kv_bytes: int
    overhead_bytes: int
    total_bytes: int


class CardName(TypedDict):
    index: int
    uuid: str
    name: str


class Card(TypedDict):
    """One engine on one GPU, or on all of them together."""

    gpus: list[CardName]
    engine: str
    fits: bool | None
    largest_context: int | None
    why: list[str]


class Inspection(TypedDict):
    """`models inspect --json`, but for its `schema`."""

    path: str
    name: str
    format: str
    architecture: str
    quantization: str
    mix: dict[str, int]
    parameters: int | None
    weights_bytes: int | None
    files: list[str]
    layers: int | None
    kv_heads: list[int]
    windows: list[int]
    experts: int | None
    context_max: int | None
    vocabulary: int | None
    tokenizer: str | None
    chat_template: bool | None
    license: str | None
    kv_bytes_per_token: int
    parallel: int
    context: int | None
    needs: list[Need]
    gpus: list[Card]


def listed(rows: Iterable[ModelRow]) -> Columns:
    """Return one line a model."""
    made = Columns(
        "model", "format", "architecture", "quantization", "size>", "used by", "complete", "where",
        spare=("where", "architecture", "format"),
    )  # fmt: skip
    for row in rows:
        made.add_row(
            row["name"],
            row["format"] or words.NONE,
            row["architecture"] or words.NONE,
            row["quantization"] or words.NONE,
            words.size(row["size_bytes"]),
            ", ".join(row["workloads"]) or words.NONE,
            "yes" if row["complete"] else "NO",
            row["path"],
        )
    return made


def problems(rows: Sequence[ModelRow]) -> list[str]:
    """Return a line for each model that is not whole, with what is wrong."""
    return [row["problem"] for row in rows if row["problem"]]


def described(found: Inspection) -> Iterator[str]:
    """Yield what is in a model, a line each; what nothing tells is left out."""
    yield found["name"]
    heads = _numbers(found["kv_heads"])
    windows = _numbers(found["windows"])
    lines = {
        "file": found["path"],
        "format": _format(found),
        "architecture": found["architecture"],
        "parameters": _count(found["parameters"]),
        "quantization": _quantization(found),
        "weights": words.size(found["weights_bytes"]),
        "layers": words.number(found["layers"]),
        "KV heads": f"{heads}, and windows of {windows} tokens" if windows else heads,
        "experts": words.number(found["experts"]),
        "context": _tokens(found["context_max"]),
        "vocabulary": _tokens(found["vocabulary"]),
        "tokenizer": found["tokenizer"] or "",
        "chat template": {True: "yes", False: "none", None: ""}[found["chat_template"]],
        "license": found["license"] or "",
        "KV cache": f"{words.size(found['kv_bytes_per_token'])} a token, in 16 bits",
    }
    for label, text in lines.items():
        if text and text != words.NONE:
            yield f"  {label:<14}{text}"


def needs(found: Inspection) -> Columns:
    """Return what each context takes."""
    made = Columns("context>", "weights>", "KV cache>", "overhead>", "in all>")
    for need in found["needs"]:
        made.add_row(
            f"{need['context']:,}",
            words.size(need["weights_bytes"]),
            words.size(need["kv_bytes"]),
            words.size(need["overhead_bytes"]),
            words.size(need["total_bytes"]),
        )
    return made


def fits(found: Inspection) -> Columns:
    """Return where it fits; equal answers of neighbouring GPUs are one line."""
    made = Columns("gpu", "name", "engine", "fits", "largest context>", "why")
    told: list[tuple[Card, list[Card]]] = []
    for card in found["gpus"]:
        last = told[-1] if told else None
        if last is not None and _answer(last[0]) == _answer(card):
            last[1].append(card)
        else:
            told.append((card, [card]))
    for card, same in told:
        made.add_row(
            _indexes(same),
            card["gpus"][0]["name"],
            card["engine"],
            {True: "yes", False: "NO", None: "unknown"}[card["fits"]],
            _tokens(card["largest_context"]),
            "; ".join(card["why"]) or words.NONE,
        )
    return made


def _answer(card: Card) -> tuple[object, ...]:
    why = tuple(word.replace(f"GPU {gpu['index']}", "GPU") for gpu in card["gpus"]
                for word in card["why"])  # fmt: skip
    return (
        len(card["gpus"]) > 1, card["gpus"][0]["name"], card["engine"], card["fits"],
        card["largest_context"], why,
    )  # fmt: skip


def _indexes(same: Sequence[Card]) -> str:
    first, last = same[0]["gpus"], same[-1]["gpus"]
    if len(first) > 1:
        return f"{len(first)} together"
    start, end = first[0]["index"], last[0]["index"]
    return str(start) if start == end else f"{start}-{end}"


def _format(found: Inspection) -> str:
    if not found["files"]:
        return f"{found['format']}, without weights"
    return f"{found['format']}, {words.counted(len(found['files']), 'file')}"


def _quantization(found: Inspection) -> str:
    total = sum(found["mix"].values())
    shares = [f"{kind} {size / total:.0%}" for kind, size in found["mix"].items() if size]
    return found["quantization"] + (f" ({', '.join(shares)})" if len(shares) > 1 else "")


def _numbers(found: Iterable[int]) -> str:
    return ", ".join(map(str, found))


def _tokens(count: int | None) -> str:
    return words.NONE if count is None else f"{count:,}"


def _count(parameters: int | None) -> str:
    """Return a number of parameters as people say it: 135 M, 8.03 B."""
    if parameters is None:
        return words.NONE
    if parameters >= 10**9:
        return f"{parameters / 10**9:.2f} B"
    return f"{parameters / 10**6:.0f} M" if parameters >= 10**6 else f"{parameters:,}"
