"""Salts: what an engine was given to keep blocks apart, and which of our scopes that means.

Events of an engine show its salts in the clear, so it gets digests; with those its events name what
we salted with. The event loop writes, the follower's thread reads. Bounded: the oldest go, and
blocks of theirs are then ones of an unknown salt, which nobody asks for.
"""

from typing import Final

import msgspec

from radixroute.events.engines.foreign import ExtraKeys, ForeignEvent, ForeignStored

_MOST: Final = 65_536


class Salts:
    """By digest."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._texts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, digest: str, text: str) -> None:
        """What was sent for which salt."""
        self._texts.pop(digest, None)
        self._texts[digest] = text
        if len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]

    def restored(self, event: ForeignEvent) -> ForeignEvent:
        """The same event with our own salts in it."""
        if not isinstance(event, ForeignStored) or event.parent is not None or not self._texts:
            return event  # children take their parent's scope
        if not (event.cache_salt or any(extra.texts for extra in event.extra_keys[:1])):
            return event
        salt = self._texts.get(event.cache_salt or "", event.cache_salt)
        extra_keys = event.extra_keys
        if extra_keys and extra_keys[0].texts:
            first = extra_keys[0]
            texts = tuple(self._texts.get(text, text) for text in first.texts)
            extra_keys = (ExtraKeys(texts, has_content=first.has_content), *extra_keys[1:])
        return msgspec.structs.replace(event, cache_salt=salt, extra_keys=extra_keys)
