"""Bodies of verbatim requests: their fields by name, taken out or set without touching the others.

Pure; never quotes a value.
"""

from collections.abc import Mapping

import msgspec

from radixroute.request.errors import InvalidRequest

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fields_of(body: bytes) -> dict[str, bytes]:
    """Of a body: values by name, as they stand in it; of a name that comes twice the last, as other
    readers have it. Raises InvalidRequest."""
    if not body:
        raise InvalidRequest("body", "is empty: send JSON, with its Content-Length")
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest("body", "is no JSON object") from None
    return {name: bytes(value) for name, value in fields.items()}


def body_of(fields: Mapping[str, bytes]) -> bytes:
    """The other way: values stay as they are, byte for byte."""
    encode = msgspec.json.encode
    members = [encode(name) + b":" + value for name, value in fields.items()]
    return b"{" + b",".join(members) + b"}"
