"""Which files of a repository are meant by a name, a quantization or a pattern. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gpuctl.errors import NotFound, UsageError
from gpuctl.quantities import format_bytes

#: As `llama-gguf-split` names the parts of a model.
#: Source: llama.cpp, llama_split_path(): "%s-%05d-of-%05d.gguf".
_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$", re.IGNORECASE)

#: The end of a GGUF's name: Q4_K_M, IQ2_XXS, UD-Q4_K_XL, BF16, MXFP4_MOE, TQ1_0.
#: Source: llama.cpp, tools/quantize/quantize.cpp, the names of QUANT_OPTIONS.
_QUANTIZATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?I?Q\d(?:_[A-Z0-9]+)*|B?F16|F32|MXFP4(?:_MOE)?|NVFP4|TQ\d_\d)$",
    re.IGNORECASE,
)

#: A projector of images beside a model: wanted by `--file` alone, it is no model by itself.
_PROJECTOR = "mmproj"

#: What an engine reads beside the weights.
_BESIDE = (".json", ".jsonl", ".jinja", ".model", ".tiktoken", ".txt", ".py", ".md")
#: Weights in the order in which they are preferred: a repository may have them several times over.
_WEIGHTS = (".safetensors", ".bin")

_MOST_LISTED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository, as the hub tells it."""

    path: str  # within the repository
    size_bytes: int
    sha256: str | None = None  # of what is stored apart (LFS, Xet)
    blob_id: str | None = None  # git's, of what is stored in the repository itself

    @property
    def etag(self) -> str | None:
        """What the Hugging Face cache calls its content."""
        return self.sha256 or self.blob_id


def quantization(path: str) -> str:
    """Return the quantization that a GGUF's name tells, "" where it tells none."""
    match = _QUANTIZATION.search(_stem(path))
    return match[1].upper() if match else ""


def split_parts(path: str) -> tuple[str, ...]:
    """Return the names of all parts of a split GGUF in their order; the name itself of another."""
    match = _SPLIT.match(path)
    if match is None:
        return (path,)
    count = int(match["parts"])
    return tuple(f"{match['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1))


def missing_parts(path: str, there: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of a GGUF that are not among the names that are *there*."""
    names = set(there)
    return tuple(part for part in split_parts(path) if part not in names)


def chosen(
    files: Sequence[HubFile], *, repository: str, quantization: str = "", pattern: str = ""
) -> tuple[HubFile, ...]:
    """
    Return the files to fetch, in the repository's order.

    Raises:
        NotFound: nothing there matches; the message lists what there is.
        UsageError: several models match; the hint lists them.
    """
    if quantization and pattern:
        raise UsageError(
            f"{repository}:{quantization} and --file {pattern} both choose", "give one of them"
        )
    if pattern:
        return _matching(files, repository, pattern)
    models = _models(files)
    if quantization or (models and not _weights(files)):
        return _one_model(models, repository, quantization)
    return _engine_files(files, repository)


def _matching(files: Sequence[HubFile], repository: str, pattern: str) -> tuple[HubFile, ...]:
    """Return what a pattern of the shell matches, whole path or name; split files all of them."""
    found = [
        file
        for file in files
        if fnmatchcase(file.path, pattern) or fnmatchcase(file.path.rpartition("/")[2], pattern)
    ]
    if not found:
        raise NotFound(
            f"{repository} has no file that matches {pattern!r}",
            f"it has {_listed(file.path for file in files)}",
        )
    parts = {part for file in found for part in split_parts(file.path)}
    complete = tuple(file for file in files if file in found or file.path in parts)
    _whole(complete, repository)
    return complete


def _one_model(
    models: Mapping[str, tuple[HubFile, ...]], repository: str, wanted: str
) -> tuple[HubFile, ...]:
    """Return the files of the one model of a GGUF repository that has this quantization."""
    found = {stem: files for stem, files in models.items() if _is(stem, wanted)}
    if not models:
        raise NotFound(f"{repository} has no GGUF file", "leave out the part after the colon")
    if not found:
        raise NotFound(
            f"{repository} has no GGUF file of quantization {wanted}",
            f"it has {_listed(_sizes(models))}",
        )
    if len(found) > 1:
        tag = _tags(found)
        raise UsageError(
            f"{repository} has several models{f' that match {wanted}' if wanted else ''}: "
            f"{_listed(_sizes(found))}",
            f"name one, as {repository}:{tag}" if tag else "name one with --file",
        )
    (files,) = found.values()
    _whole(files, repository)
    return files


def _tags(models: Mapping[str, tuple[HubFile, ...]]) -> str:
    """Return a quantization that tells one of these from the others, "" where none does."""
    tags = [quantization(files[0].path) for files in models.values()]
    return next((tag for tag in tags if tag and tags.count(tag) == 1), "")


def _engine_files(files: Sequence[HubFile], repository: str) -> tuple[HubFile, ...]:
    """Return what an engine reads of a repository: its weights once, and what stands beside."""
    suffix = _weights(files)
    if not suffix:
        raise NotFound(
            f"{repository} has no weights: neither GGUF nor {' nor '.join(_WEIGHTS)}",
            f"it has {_listed(file.path for file in files)}; name some with --file",
        )
    found = tuple(file for file in files if file.path.endswith((suffix, *_BESIDE)))
    whole = any(file.path.startswith("model") and file.path.endswith(suffix) for file in found)
    return tuple(file for file in found if not _again(file.path, whole))


def _again(path: str, whole: bool) -> bool:
    """Tell a second copy of the weights, in the layout of whoever trained them."""
    return path.startswith("original/") or (whole and path.startswith("consolidated"))


def _weights(files: Iterable[HubFile]) -> str:
    names = [file.path for file in files if not file.path.startswith("original/")]
    return next((s for s in _WEIGHTS if any(name.endswith(s) for name in names)), "")


def _models(files: Iterable[HubFile]) -> dict[str, tuple[HubFile, ...]]:
    """Return the models of a GGUF repository: its parts, by the name without their numbers."""
    found: dict[str, tuple[HubFile, ...]] = {}
    for file in files:
        name = file.path.rpartition("/")[2].lower()
        if name.endswith(".gguf") and not name.startswith(_PROJECTOR):
            stem = _stem(file.path)
            found[stem] = (*found.get(stem, ()), file)
    return found


def _stem(path: str) -> str:
    match = _SPLIT.match(path)
    return match["stem"] if match else re.sub(r"\.gguf$", "", path, flags=re.IGNORECASE)


def _is(stem: str, wanted: str) -> bool:
    """Tell whether a name ends in this quantization; K_M is none of Q4_K_M."""
    name, wanted = stem.lower(), wanted.lower()
    return name.endswith(wanted) and (
        not wanted or len(name) == len(wanted) or name[-len(wanted) - 1] in "-./"
    )


def _whole(files: Sequence[HubFile], repository: str) -> None:
    names = [file.path for file in files]
    lacking = dict.fromkeys(part for name in names for part in missing_parts(name, names))
    if lacking:
        raise NotFound(
            f"{repository} lacks {_listed(lacking)}",
            "the repository is not complete: choose another, or another --revision",
        )


def _sizes(models: Mapping[str, tuple[HubFile, ...]]) -> Iterable[str]:
    for stem, files in models.items():
        size = format_bytes(sum(file.size_bytes for file in files))
        yield f"{quantization(files[0].path) or stem} ({size})"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return ", ".join(every[:_MOST_LISTED]) + more if every else "nothing"
