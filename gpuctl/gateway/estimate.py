"""
How many tokens a prompt has, where its engine did not come to tell: by tiktoken, if that is there.

An engine tells at an answer's end, or when it is asked later (`prompts`). What it did not tell,
`Gateway` has counted here, in a thread, with the tokenizer that an operator names: a file in
tiktoken's format, as Llama 3 (`tokenizer.model`), Qwen and OpenAI publish theirs. Nothing is
fetched.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from gpuctl.errors import GpuctlError

#: Names the file; without it nothing is estimated.
VARIABLE = "GPUCTL_TIKTOKEN_FILE"

#: Returns the tokens of the prompt in a request's body; `None`: it has none that can be counted.
Estimate = Callable[[bytes], int | None]

#: More is not counted: while it is taken apart, no other thread runs.
_MOST_BYTES = 256 * 1024
#: What a token never goes beyond. Source: `pat_str` of llama/tokenizer.py in meta-llama/llama3;
#: cl100k_base's splits as it does, Qwen's but for digits.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Part(msgspec.Struct):
    text: str = ""  # none of a picture


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Body(msgspec.Struct):
    messages: list[_Message] = []
    prompt: str | list[str] = ""


_body = msgspec.json.Decoder(_Body).decode


def load(path: str) -> Estimate:
    """
    Return what counts by the tokenizer in a file. The chat template's own tokens are not counted.

    Raises:
        GpuctlError: there is no such tokenizer, or no tiktoken.
    """
    try:
        import tiktoken
    except ImportError as error:
        raise GpuctlError(f"{VARIABLE}: tiktoken is missing", "pip install tiktoken") from error
    try:
        with open(path, "rb") as file:
            rows = [line.split() for line in file if line.strip()]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
        encoding = tiktoken.Encoding(path, pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
    except OSError as error:
        raise GpuctlError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise GpuctlError(f"{path}: no tokenizer in tiktoken's format: {error}") from error

    def estimate(body: bytes) -> int | None:
        text = _text(body)
        return None if text is None else len(encoding.encode_ordinary(text))

    return estimate


def _text(body: bytes) -> str | None:
    """Return the words of a prompt; `None` where it is something else, or a great deal."""
    if len(body) > _MOST_BYTES:
        return None
    try:
        found = _body(body)
    except msgspec.DecodeError:
        return None
    texts = [found.prompt] if isinstance(found.prompt, str) else [*found.prompt]
    for message in found.messages:
        parts = message.content or ""
        texts += [parts] if isinstance(parts, str) else [part.text for part in parts]
    return "\n".join(filter(None, texts)) or None
