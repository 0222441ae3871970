"""
What engines write of the tokens of a request, as msgspec decodes it. PURE.

`usage` finds it in answers and events. Apart from it, as no Struct can be compiled.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

_Count = Annotated[int, Meta(ge=0)]


class Usage(Struct, frozen=True):
    """Tokens of one request."""

    prompt: int
    completion: int  # 0 where nothing is generated: embeddings
    cached: int | None  # of the prompt, that were not computed again; None: it does not say


class Details(Struct):
    """Of the prompt's tokens."""

    cached_tokens: _Count | None = None


class Counts(Struct):
    """`usage`, under the names of either of OpenAI's APIs."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: Details | None = None
    #: The names of /v1/responses and /v1/audio/transcriptions.
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: Details | None = None


class Response(Struct):
    """`response`, in an event of /v1/responses."""

    usage: Counts | None = None


class Answer(Struct):
    """A whole answer, or an event."""

    usage: Counts | None = None
    #: Of the event `response.completed`.
    response: Response | None = None


class Chunk(Struct):
    """An event of a stream that may have usage alone."""

    choices: list[Raw] | None = None
    usage: dict[str, Any] | None = None
    timings: Raw = Raw()


class Count(Struct):
    """An answer of those endpoints that only count a prompt."""

    input_tokens: int = 0  # llama.cpp, of messages
    count: int = 0  # vLLM
    tokens: list[Raw] = []  # llama.cpp, of a text


read_count = Decoder(Count).decode
read_answer = Decoder(Answer).decode
read_counts = Decoder(Counts).decode
read_chunk = Decoder(Chunk).decode
