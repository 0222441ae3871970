"""
The few fields of a JSON body that are looked at, as msgspec decodes them. PURE.

`bodies` reads them, and makes an `Ask` of them. Apart from it, as no Struct can be compiled.
"""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw(b"")


class Ask(msgspec.Struct, frozen=True):
    """What a request asks for, as far as the gateway looks."""

    model: str
    stream: bool = False
    usage_asked: bool = False  # the client itself wants the usage chunk of a stream
    session: bytes | None = None  # `prompt_cache_key`
    first_words: bytes = b""  # of messages, prompt or input, as they were sent
    drops: bool = False  # `rewritten` has one of DROPPED to leave out


class Options(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class Message(msgspec.Struct):
    """One of `messages`."""

    content: msgspec.Raw = ABSENT


class Fields(msgspec.Struct):
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


#: Of a body; of `messages`; of any object, whose values stay as they are.
read_fields = msgspec.json.Decoder(Fields).decode
read_messages = msgspec.json.Decoder(list[Message]).decode
read_pairs = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
