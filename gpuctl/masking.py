"""What an operator wrote → the same without its secrets, for every output. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASK = "********"

#: Flags whose value is a secret, with dashes for underscores, which vLLM takes alike.
#: Source: `llama-server --help` (--api-key; -hft, --hf-token), `vllm serve --help` (--api-key,
#: --hf-token), `text-embeddings-router --help` (--api-key; --hf-token, --hf-api-token).
FLAGS = ("--api-key", "--hf-token", "--hf-api-token", "-hft")

_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)

_FLAG = "|".join(re.escape(flag).replace(r"\-", "[-_]") for flag in FLAGS)
#: In a line: `--api-key X`, `--api-key=X`, and as a list's words `'--api-key', 'X'`.
_FLAG_IN_TEXT = re.compile(rf"(?<![\w-])((?:{_FLAG})(?:=|['\"]?,?\s+['\"]?))(?!-)[^\s'\",]+")
#: In a line: `api_key='X'`, `'api_key': ['X', 'Y']`, as programs print their settings.
_NAME = "|".join(
    sorted({flag.lstrip("-").replace("-", "[-_]") for flag in FLAGS if flag[1] == "-"})
)
_SETTING = re.compile(
    rf"(?<![\w-])((?:{_NAME})['\"]?\s*[=:]\s*)(?!None|null)(?:\[[^]]*\]|'[^']*'|\"[^\"]*\"|[^\s,)}}]+)"
)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables with the values of secrets hidden, told by their names."""
    return {
        name: MASK if value and _VARIABLE.search(name) else value
        for name, value in variables.items()
    }


def command(words: Iterable[str]) -> list[str]:
    """Return the words of a command with the values of `FLAGS` hidden."""
    shown: list[str] = []
    values = None  # how many of a flag's values came already, where one is due
    for word in words:
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") in FLAGS:
            shown.append(f"{flag}={MASK}" if value else word)
            values = None if equals else 0
        elif values is not None and not word.startswith("-" if values else "--"):
            shown.append(MASK)  # vLLM takes several keys, and a first one may begin with a dash
            values += 1
        else:
            shown.append(text(word))
            values = None
    return shown


def text(line: str) -> str:
    """Return a line of text with what follows `FLAGS` hidden, and settings of those names."""
    return _SETTING.sub(rf"\1{MASK}", _FLAG_IN_TEXT.sub(rf"\1{MASK}", line))
