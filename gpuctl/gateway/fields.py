"""
The few fields of a JSON body that are looked at, as msgspec decodes them. PURE.

`bodies` reads them, and makes an `Ask` of them. Apart from it, as no Struct can be compiled. Those
without `gc` can be in no circle.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

ABSENT = msgspec.Raw(b"")
#: What no value is, not even null.
_Never = Annotated[int, msgspec.Meta(ge=1, le=0)]


class Options(msgspec.Struct, gc=False):
    """`stream_options`."""

    include_usage: bool | None = None


class Message(msgspec.Struct, gc=False):
    """One of `messages`."""

    content: msgspec.Raw = ABSENT


class Fields(msgspec.Struct, gc=False):
    """Of a body; all others are skipped."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | None = None
    stream_options: Options | None = None
    prompt_cache_key: msgspec.Raw = ABSENT
    messages: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    query: msgspec.Raw = ABSENT
    documents: msgspec.Raw = ABSENT
    api_base: msgspec.Raw = ABSENT
    base_url: msgspec.Raw = ABSENT
    user_config: msgspec.Raw = ABSENT


class TextPart(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A part of a content that is a text, and has room for nothing else."""

    type: Literal["text"]
    text: str


class TextMessage(msgspec.Struct, gc=False):
    """One of `messages` with texts for its content."""

    content: str | list[TextPart] | None = None


class Texts(msgspec.Struct, gc=False):
    """
    Of a body whose prompt is texts alone, as nearly all are; another one is a ValidationError.

    Every field is as in `Fields`, or less can be in it.
    """

    model: str
    stream: bool | None = None
    stream_options: Options | None = None
    prompt_cache_key: msgspec.Raw = ABSENT
    messages: list[TextMessage] | None = None
    prompt: str | None = None
    input: str | list[str] | None = None
    query: str | None = None
    documents: list[str] | None = None
    api_base: _Never = 0
    base_url: _Never = 0
    user_config: _Never = 0


#: Of a body; of one whose prompt is texts; of `messages`; of any object, whose values stay.
read_fields = msgspec.json.Decoder(Fields).decode
read_texts = msgspec.json.Decoder(Texts).decode
read_messages = msgspec.json.Decoder(list[Message]).decode
read_pairs = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
