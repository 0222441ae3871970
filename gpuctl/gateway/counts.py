"""
What engines write of the tokens of a request, as msgspec decodes it. PURE.

`usage` finds it in answers and events. Apart from it, as no Struct can be compiled. Those without
`gc` can be in no circle.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

_Count = Annotated[int, Meta(ge=0)]


class Details(Struct, frozen=True, gc=False):
    """Of the prompt's tokens."""

    cached: _Count | None = field(name="cached_tokens", default=None)


class Usage(Struct, frozen=True, gc=False):
    """`usage`: the tokens of one request."""

    prompt: _Count = field(name="prompt_tokens")
    #: 0 and None: nothing is generated, as of embeddings.
    completion: _Count | None = field(name="completion_tokens", default=0)
    #: How many of the prompt's were not computed again; None: it does not say.
    details: Details | None = field(name="prompt_tokens_details", default=None)


class NewUsage(Struct, frozen=True, gc=False):
    """The same, under the names of /v1/responses and /v1/audio/transcriptions."""

    prompt: _Count = field(name="input_tokens")
    completion: _Count | None = field(name="output_tokens", default=0)
    details: Details | None = field(name="input_tokens_details", default=None)


class Answer(Struct, gc=False):
    """A whole answer, or an event."""

    usage: Raw = Raw()
    #: Of the event `response.completed`.
    response: Raw = Raw()


class End(Struct, gc=False):
    """What follows in an answer from its `usage` on."""

    usage: Usage


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
read_end = Decoder(End).decode
read_usage = Decoder(Usage).decode
read_new_usage = Decoder(NewUsage).decode
read_chunk = Decoder(Chunk).decode
