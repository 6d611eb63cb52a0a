"""Text and chats to token ids and back, from a Hugging Face tokenizer's files.

Owns one loaded tokenizer and the exact bytes of its files, so that a worker can hand them to a
router and both agree by fingerprint. Reads a directory once; never writes, never downloads. Called
by the router (encode) and the worker (detokenise). Immutable after construction, safe for threads.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.request.chat import ChatMessage, ChatTemplate, Conversation
from radixroute.request.control_tokens import ControlTokens, Guard, Part
from radixroute.request.encoding import (
    PIECE_CHARS,
    LengthCheck,
    Recall,
    any_length,
    around,
    ids_of,
    tokens_of_pieces,
    unpacked,
)
from radixroute.request.errors import InvalidRequest, TokenizerError
from radixroute.request.pacing import MESSAGES_A_TURN, Pause, in_turns, no_pause
from radixroute.request.token_bytes import TokenBytes

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"
MODEL_FILE = "config.json"
FILE_NAMES = (TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE, GENERATION_FILE, MODEL_FILE)
# The largest public tokenizer.json (Gemma 3) has 33 MB.
MAX_FILE_BYTES = 64 * 1024 * 1024
FINGERPRINT_BYTES = 16
# Of a piece that is remembered, at least: less, and its name costs as much as its ids.
RECALLED_CHARS = 128


class Tokenizer:
    """A model's tokenizer with its chat template and its end-of-sequence tokens."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Raises `TokenizerError` for files that are missing, torn or of an unknown kind."""
        self._files = {name: files[name] for name in FILE_NAMES if name in files}
        spec = self._json(TOKENIZER_FILE)
        if not spec:
            raise TokenizerError(f"{TOKENIZER_FILE} is missing or empty")
        config = self._json(CONFIG_FILE)
        self._backend = _load_backend(self._files[TOKENIZER_FILE])
        self._specials = _special_tokens(config)
        self._adds_bos = _adds_bos(config, self._specials)
        self._template = self._load_template(config)
        self._control = ControlTokens(self._backend, set(self._specials.values()))
        self._around = self._find_around()
        self.token_bytes = TokenBytes(self._backend, spec)
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        # At least: pieces of a byte-level vocabulary are longer than the bytes they stand for.
        self.longest_token_bytes = max(len(piece.encode()) for piece in vocabulary)
        self.eos_token_ids = self._find_eos()
        self.fingerprint = _fingerprint(self._files)

    @classmethod
    def from_dir(cls, path: str | Path) -> Self:
        """Reads the tokenizer's files of a model directory."""
        folder = Path(path)
        if not folder.is_dir():
            raise TokenizerError(f"{folder} is not a directory; give a model directory")
        try:
            return cls({name: _read(folder / name) for name in FILE_NAMES if _has(folder / name)})
        except OSError as error:
            raise TokenizerError(f"cannot read the tokenizer in {folder}: {error}") from error

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The other side of `files`; names it does not know are ignored."""
        return cls(files)

    def files(self) -> dict[str, bytes]:
        """The exact files this tokenizer was built from, by name."""
        return dict(self._files)

    def encode(
        self,
        text: str,
        *,
        check: LengthCheck = any_length,
        pause: Pause = no_pause,
        recall: Recall | None = None,
    ) -> Tokens:
        """Raw text, with the special tokens `transformers` would add (a BOS where it is due).

        Special tokens written out in the text are read as such, as in `transformers`. `check` is
        told the number of tokens before any is unpacked; `pause` is called now and then. Pieces
        that `recall` knows are not encoded again: the ids are the same.
        """
        if recall is not None and self._around is not None and self._control.has_cuts:
            before, after = self._around
            tokens = self._in_pieces(text, recall, check, pause)
            return np.concatenate((before, tokens, after)) if before.size + after.size else tokens
        is_ours = self._adds_bos is not None
        ids = ids_of(self._backend, text, add_special_tokens=not is_ours, check=check, pause=pause)
        tokens = unpacked(ids, pause)
        if not self._adds_bos:
            return tokens
        bos = self._backend.token_to_id(self._specials["bos_token"])
        return tokens if bos is None else np.concatenate((as_tokens([bos]), tokens))

    def encode_chat(
        self,
        messages: Iterable[ChatMessage],
        *,
        today: datetime.date | None = None,
        check: LengthCheck = any_length,
        pause: Pause = no_pause,
        recall: Recall | None = None,
    ) -> Tokens:
        """A conversation through the chat template; see `ChatTemplate.render` for `today`, and
        `encode` for the rest.

        The template's control tokens are the only ones: their text in a message stays text, where
        `transformers` would let it end the turn and begin another.
        """
        if self._template is None:
            raise InvalidRequest(
                "messages",
                "this model has no chat template: send raw text (`submit --raw`, `RawText`) or "
                "token_ids",
            )
        messages = Conversation(in_turns(messages, MESSAGES_A_TURN, pause))
        text = self._template.render(messages, today=today, pause=pause)
        tokens = self._in_pieces(text, recall, check, pause)
        guard = self._control.guard(messages, pause)
        if guard is None:
            return tokens
        text = self._template.render(guard.messages, today=today, pause=pause)
        parts = in_turns(self._control.parts(text), MESSAGES_A_TURN, pause)
        wanted = [part.token_id for part in parts if part.token_id is not None]
        if self._control.among(tokens, pause) == wanted:
            return tokens
        parts = in_turns(self._control.parts(text), MESSAGES_A_TURN, pause)
        return unpacked(self._encode_parts(parts, guard), pause)

    def _in_pieces(
        self, text: str, recall: Recall | None, check: LengthCheck, pause: Pause
    ) -> Tokens:
        """As if encoded whole, without what stands around a raw text."""
        n_chars = PIECE_CHARS if recall is None else RECALLED_CHARS
        pieces = self._control.pieces(text, n_chars)
        return tokens_of_pieces(self._backend, pieces, recall=recall, check=check, pause=pause)

    def _find_around(self) -> tuple[Tokens, Tokens] | None:
        """What is put before and after a raw text's own ids; None: not known to be always so."""
        if self._adds_bos is None:
            return around(self._backend)
        bos = self._backend.token_to_id(self._specials["bos_token"]) if self._adds_bos else None
        return as_tokens([] if bos is None else [bos]), as_tokens([])

    def _encode_parts(self, parts: Iterable[Part], guard: Guard) -> list[int]:
        """A chat with the text of a control token in a message: there it is text."""
        ids: list[int] = []
        for part in parts:
            if part.token_id is not None:
                ids.append(part.token_id)
            elif part.text:
                ids += self._control.encode_literally(guard.restored(part.text))
        return ids

    def name_of(self, token_id: int) -> str:
        """How its vocabulary writes a token; empty for one that it does not have."""
        return self._backend.id_to_token(token_id) or ""

    def decode(self, token_ids: Iterable[int]) -> str:
        """Whole text of a whole answer, special tokens left out."""
        return str(self._backend.decode([int(i) for i in token_ids], skip_special_tokens=True))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._files.get(name, b"{}"))
        except ValueError as error:
            raise TokenizerError(f"{name} is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise TokenizerError(f"{name} is not a JSON object")
        return value

    def _load_template(self, config: Mapping[str, Any]) -> ChatTemplate | None:
        if TEMPLATE_FILE in self._files:
            source: str | None = self._files[TEMPLATE_FILE].decode("utf-8", "replace")
        else:
            source = _configured_template(config.get("chat_template"))
        return None if source is None else ChatTemplate(source, self._specials)

    def _find_eos(self) -> tuple[int, ...]:
        """What ends an answer: generation config, else model config, and the tokenizer's own."""
        stated = self._json(GENERATION_FILE).get("eos_token_id")
        if stated is None:
            stated = self._json(MODEL_FILE).get("eos_token_id")
        found = set(stated if isinstance(stated, list) else [] if stated is None else [stated])
        if "eos_token" in self._specials:
            found.add(self._backend.token_to_id(self._specials["eos_token"]))
        return tuple(sorted(token_id for token_id in found if isinstance(token_id, int)))


def _load_backend(data: bytes) -> tokenizers.Tokenizer:
    try:  # the backend raises bare Exception for bad files
        backend = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:
        raise TokenizerError(f"{TOKENIZER_FILE} cannot be loaded: {error}") from error
    # Some published files carry the settings of their training run.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and whatever else the model names; a string or an added-token record each."""
    extra = config.get("extra_special_tokens")
    named = {**config, **(extra if isinstance(extra, dict) else {})}
    found = {}
    for name, value in named.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _adds_bos(config: Mapping[str, Any], specials: Mapping[str, str]) -> bool | None:
    """The config's word; None leaves it to the post-processor in tokenizer.json."""
    stated = config.get("add_bos_token")
    if not isinstance(stated, bool):
        return None
    return stated and "bos_token" in specials


def _configured_template(stated: object) -> str | None:
    """A template, or a list of named ones of which `default` is for chats."""
    if isinstance(stated, str):
        return stated
    if isinstance(stated, list):
        named = [one for one in stated if isinstance(one, dict)]
        stated = {str(one.get("name")): one.get("template") for one in named}
    template = stated.get("default") if isinstance(stated, dict) else None
    return template if isinstance(template, str) else None


def _fingerprint(files: Mapping[str, bytes]) -> str:
    """Hexadecimal BLAKE2b over names and contents, each length-prefixed, in a fixed order."""
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES, person=b"rr-tokenizer")
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _has(path: Path) -> bool:
    return path.is_file()


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TokenizerError(f"{path.name} has {size} bytes; at most {MAX_FILE_BYTES} are read")
    return path.read_bytes()
