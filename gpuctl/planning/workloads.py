"""
Can a workload's engine run it here: a workload in, its engine or mistakes out.

What the profile alone can tell was checked when it was read; this is what the host decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from gpuctl import masking
from gpuctl.model import Inventory, Workload
from gpuctl.planning.mistakes import Mistakes
from gpuctl.plugin import Engine

#: Set by gpuctl, which hands GPUs over by UUID; another value would hide them or show others.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")

#: `$NAME` or `${NAME}`, quoted or not; and a flag with that alone for its value.
_NAME = re.compile(r"(['\"]?)\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})\1")
_NAMED = re.compile(rf"(?<!\S)--?[\w-]+(?:=|\s+){_NAME.pattern}(?=['\"]?(?:[\s;&|)]|$))")

_SECRET_HINT = (
    'name the file that it stands in: environment = { NAME = { file = "/path" } }, where NAME is '
    "what the engine reads: HF_TOKEN, VLLM_API_KEY, LLAMA_API_KEY …"
)


def engine_of(
    workload: Workload,
    inventory: Inventory,
    engines: Mapping[str, Engine],
    mistakes: Mistakes,
) -> Engine | None:
    """Return the workload's engine, `None` when it cannot be asked to launch it."""
    where = f"workloads.{workload.name}"
    engine = engines.get(workload.engine)
    if engine is None:
        mistakes.profile(
            f"{where}.engine: there is no engine {workload.engine!r}",
            f"the engines are {', '.join(sorted(engines))}",
        )
        return None
    if inventory.runtime not in engine.runtimes:
        mistakes.profile(
            f"{where}.engine: {engine.name} does not run in runtime {inventory.runtime!r}",
            "it needs Docker: `sudo systemctl start docker`, with `[host] runtime` left out, or "
            '"docker"',
        )
    _check_launch(workload, engine, inventory, mistakes)
    _check_secrets(workload, engine, mistakes)
    _check_mounts(workload, inventory, mistakes)
    _check_variables(workload, mistakes)
    return engine if check_options(workload, engine, mistakes) else None


def check_options(workload: Workload, engine: Engine, mistakes: Mistakes) -> bool:
    """Whether its engine takes its options: it can be asked nothing else where it does not."""
    try:
        engine.options(**workload.options)
    except (TypeError, ValueError) as error:
        what, _, hint = str(error).partition("; ")
        hint = hint or f"see the options of engine {engine.name}"
        mistakes.profile(f"workloads.{workload.name}.options: {what}", hint)
        return False
    return True


def _check_launch(
    workload: Workload, engine: Engine, inventory: Inventory, mistakes: Mistakes
) -> None:
    where = f"workloads.{workload.name}"
    if engine.needs_image and not workload.image and inventory.runtime == "docker":
        mistakes.profile(f"{where}.image: {engine.name} needs an image on Docker", "name one")
    flags = {argument.partition("=")[0] for argument in workload.args if argument.startswith("-")}
    for flag in sorted(f for f in flags - engine.whole if _meant(f, engine.owns)):
        mistakes.host(
            f"{where}.args: {flag} is set by gpuctl",
            "use the workload's own keys, or its options",
        )


def _check_secrets(workload: Workload, engine: Engine, mistakes: Mistakes) -> None:
    """Refuse words that `masking` would hide: they stand in the container's command for all."""
    for key, words in _written(workload):
        for flag in dict.fromkeys(_secret_flags(words, engine)):
            mistakes.host(
                f"workloads.{workload.name}.{key}: {flag} has a secret, which `docker inspect` "
                "would show",
                _SECRET_HINT,
            )


def _written(workload: Workload) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each key with words of the command; elsewhere a workload has its variant's own."""
    variants = {"on_cpu": workload.on_cpu, "scaled": workload.scaled}
    for name in ("args", "command"):
        theirs = {key: getattr(variant, name) for key, variant in variants.items()}
        words = getattr(workload, name)
        if not any(words is own for own in theirs.values()):
            yield name, words
        for key, own in theirs.items():
            yield f"{key}.{name}", own or ()


def _secret_flags(words: tuple[str, ...], engine: Engine) -> Iterator[str]:
    """Yield the flag of every word with a secret; never the word, which may begin with a dash."""
    flag = "a word"
    # Without flags of its own an engine runs any program, whose parser may know no short forms.
    known = masking.FLAGS if engine.owns else ()
    whole = [_whole(word, known) for word in words]
    for word, given, shown in zip(words, whole, masking.command(whole), strict=True):
        name = word.partition("=")[0].split(" ")[0]
        if word.startswith("-") and (shown == given or shown.endswith(f"={masking.MASK}")):
            flag = name
        if shown != given and not _only_names(given, shown):
            yield flag


def _only_names(word: str, shown: str) -> bool:
    """Whether what `masking` hides of a word are names of variables, for a shell to fill in."""
    flag, _, value = word.partition("=")
    if shown in (masking.MASK, f"{flag}={masking.MASK}"):
        return bool(_NAME.fullmatch(word if shown == masking.MASK else value))
    rest = _NAMED.sub("", word)
    return masking.command([rest]) == [rest]


def _whole(word: str, flags: Iterable[str]) -> str:
    """Return a word with the flag that it begins with written out, where it is one of *flags*."""
    name, equals, value = word.partition("=")
    return f"{_meant(name, flags) or name}{equals}{value}"


def _meant(flag: str, flags: Iterable[str]) -> str:
    """
    Return which of *flags* a parser takes a flag for, "" where none.

    vLLM's and llama.cpp's take an underscore for a dash, and Python's a flag's beginning for the
    flag. Source: vllm/utils/argparse_utils.py, common/arg.cpp; argparse, allow_abbrev.
    """
    given = flag.replace("_", "-")
    for other in sorted(flags):
        named = other.replace("_", "-")
        if given == named or (
            len(given) > len("--") and given.startswith("--") and named.startswith(given)
        ):
            return other
    return ""


def _check_mounts(workload: Workload, inventory: Inventory, mistakes: Mistakes) -> None:
    for mount in workload.mounts:
        source = mount.source
        if inventory.runtime != "process" and "/" in source and not source.startswith("/"):
            mistakes.profile(
                f"workloads.{workload.name}.mounts: {source!r} is neither an absolute path nor "
                "the name of a volume",
                "write an absolute path, or a name without a slash",
            )


def _check_variables(workload: Workload, mistakes: Mistakes) -> None:
    for name in _GPU_VARIABLES:
        if workload.environment.get(name):
            mistakes.profile(
                f"workloads.{workload.name}.environment: {name} is gpuctl's to set: inside a "
                "container its GPUs are numbered from 0",
                "say which GPUs with the workload's `gpus`",
            )
