"""Backends of every kind that models come with, small; and texts that lay traps for them."""

from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tests.request import samples

TEXTS = st.lists(
    st.sampled_from(
        ("<|im_start|>", "<|im_end|>", "<s>", "</s>", "<", "|>", " ", "\n", "two words", "<think>",
         "hello", "Hello", "é", "e\u0301", "東", "<|im_", "  ", "<left>", "right>", "<s>again",
         "word", "[CLS]", "[SEP]", "ﬁ", "\u2581", "the cat", "a", "END")
    ),
    max_size=40,
).map("".join)  # fmt: skip
MARKS = ("<|im_start|>", "<|im_end|>")


def _byte_level() -> Tokenizer:
    return Tokenizer.from_buffer(samples.byte_level_json())


def _prefix_space() -> Tokenizer:
    backend = _byte_level()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return backend


def _sentence_piece() -> Tokenizer:
    return Tokenizer.from_buffer(samples.sentence_piece_json())


def _metaspace(scheme: str) -> Callable[[], Tokenizer]:
    def made() -> Tokenizer:
        backend = _sentence_piece()
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        return backend

    return made


def _decoder() -> decoders.Decoder:
    """One that our detokenizer knows: nothing is decoded here."""
    return decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )


def _unigram() -> Tokenizer:
    pieces = [*"abcdefghilmnoprstuwxHEND<|>_[]", "\u2581", "\u2581the", "\u2581cat", "hello", "fi"]
    vocab = [("<unk>", 0.0), *((piece, -2.0 - len(piece) / 10) for piece in pieces)]
    backend = Tokenizer(models.Unigram(vocab, 0, False))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.add_special_tokens(["<s>", "</s>", *MARKS])
    backend.decoder = _decoder()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return backend


def _word_piece() -> Tokenizer:
    words = ["hello", "the", "cat", "two", "words", "word", "a", "e", "##a", "##e", "end", "fi"]
    names = ["[UNK]", "[CLS]", "[SEP]", *MARKS, *words, "<", "|", ">", "_", "s", "im", "東"]
    backend = Tokenizer(
        models.WordPiece({one: at for at, one in enumerate(names)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", *MARKS])
    backend.decoder = _decoder()
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return backend


def _strips() -> Tokenizer:
    """What its normaliser takes off depends on where a piece begins and ends."""
    backend = _byte_level()
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Lowercase()])
    backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return backend


def _greedy() -> Tokenizer:
    """Neighbours that take white space, or look whether a word goes on."""
    backend = _byte_level()
    backend.add_special_tokens(
        [
            AddedToken("<left>", lstrip=True, special=True),
            AddedToken("right>", rstrip=True, special=True),
            AddedToken("<s>again", special=True),
            AddedToken("word", single_word=True, special=True),
            AddedToken("END", special=True, normalized=False),
        ]
    )
    return backend


def _normalized() -> Tokenizer:
    backend = _byte_level()
    backend.normalizer = normalizers.Lowercase()
    backend.add_tokens([AddedToken("hello", normalized=True), AddedToken("the cat")])
    return backend


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": _byte_level,
    "prefix space": _prefix_space,
    "sentence piece": _sentence_piece,
    "metaspace, always": _metaspace("always"),
    "metaspace, only the first": _metaspace("first"),
    "unigram": _unigram,
    "word piece": _word_piece,
    "strips": _strips,
    "greedy neighbours": _greedy,
    "normalized": _normalized,
}


@cache
def files_of(kind: str) -> bytes:
    return KINDS[kind]().to_str().encode()
