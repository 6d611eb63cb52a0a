"""Client message: `GenerateResponse` as bytes. Pure.

One goes out for nearly each token, and nearly all have ids, text and position alone: those are
written field by field, the request's own made once. What few messages have is made by protobuf and
stands behind: one message's bytes behind another's are both in one.
"""

from typing import Final

from radixroute.protos import radixroute_pb2 as pb

_TOKEN_IDS, _TEXT, _POSITION = b"\x12", b"\x1a", b"\x20"  # field and wire type
_SMALL: Final = tuple(bytes((n,)) for n in range(0x80))


def head(request_id: str, index: int) -> bytes:
    """What all messages of one answer have."""
    return pb.GenerateResponse(request_id=request_id, index=index).SerializeToString()


def message(head: bytes, token_ids: bytes, text: str, position: int) -> bytes:
    """The new output of one answer."""
    encoded = text.encode()
    return b"".join(
        (
            head,
            _TOKEN_IDS,
            _varint(len(token_ids)),
            token_ids,
            _TEXT,
            _varint(len(encoded)),
            encoded,
            _POSITION,
            _varint(position),
        )
    )


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
