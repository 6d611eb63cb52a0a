"""One setting's value: from a TOML value or from text to the type its field declares.

Pure. Knows types, not settings: the fields of the settings records say everything, so a new field
needs no code here. Called by `config`.
"""

import math
import re
import types
import typing
from enum import Enum
from typing import Any

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)")
_FACTORS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE_ENDINGS = ("_bytes", "_memory")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NONE = "none"
_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


class WrongType(ValueError):
    """The value is not what the field declares; the text says what it takes, and never quotes it.

    A value may be a secret in the wrong place.
    """


def from_toml(value: object, declared: Any, name: str) -> object:
    """A value of the file: its type must fit, only sizes and "none" may be text."""
    inner, optional = _unwrap(declared)
    if optional and isinstance(value, str) and value.lower() == _NONE:
        return None
    if isinstance(value, str) and (inner is str or _is_enum(inner) or _is_size(inner, name)):
        return from_text(value, declared, name)
    if inner is float and type(value) in (int, float):
        return _finite(float(typing.cast(float, value)))
    if inner in (int, bool) and type(value) is inner:
        return value
    if typing.get_origin(inner) is tuple and isinstance(value, list):
        item, *_ = typing.get_args(inner)
        return tuple(from_toml(one, item, name) for one in value)
    raise WrongType(f"takes {describe(declared, name)}, not {_KINDS.get(type(value), 'this')}")


def from_text(text: str, declared: Any, name: str) -> object:
    """A value of the environment or a flag: text that reads as the field's type."""
    inner, optional = _unwrap(declared)
    if optional and text.lower() == _NONE:
        return None
    try:
        return _parse(text, inner, name)
    except ValueError:
        raise WrongType(f"takes {describe(declared, name)}") from None


def describe(declared: Any, name: str) -> str:
    """What a field takes, in words."""
    inner, optional = _unwrap(declared)
    if _is_size(inner, name):
        words = 'a size such as "512MiB" or a number of bytes'
    elif _is_enum(inner):
        words = "one of " + ", ".join(str(choice.value) for choice in inner)
    elif typing.get_origin(inner) is tuple:
        words = "a list"
    else:
        words = {
            bool: "true or false",
            int: "a whole number",
            float: "a finite number",
            str: "text",
        }[inner]
    return f'{words} or "{_NONE}"' if optional else words


def _parse(text: str, inner: Any, name: str) -> object:
    if inner is str:
        return text
    if inner is bool:
        return _parse_bool(text)
    if inner is float:
        return _finite(float(text))
    if inner is int:
        return _parse_size(text) if _is_size(inner, name) else int(text)
    if _is_enum(inner):
        return inner(text)
    item, *_ = typing.get_args(inner)
    return tuple(_parse(part.strip(), item, name) for part in text.split(",") if part.strip())


def _parse_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(text)


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return int(text)
    return int(float(match[1]) * _FACTORS[match[2]])


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise WrongType("takes a finite number, not this")
    return value


def _unwrap(declared: Any) -> tuple[Any, bool]:
    """`X | None` as (X, True)."""
    if typing.get_origin(declared) in (types.UnionType, typing.Union):
        inner = [one for one in typing.get_args(declared) if one is not types.NoneType]
        return inner[0], len(inner) < len(typing.get_args(declared))
    return declared, False


def _is_enum(inner: Any) -> bool:
    return isinstance(inner, type) and issubclass(inner, Enum)


def _is_size(inner: Any, name: str) -> bool:
    return inner is int and name.endswith(_SIZE_ENDINGS)
