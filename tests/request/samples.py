"""Small real tokenizers, built in a moment: byte-level BPE and SentencePiece with byte fallback."""

import json
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.normalizers import Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers

from radixroute.request import tokenizer as ours

CORPUS = (
    "The quick brown fox jumps over the lazy dog. def main(): return 42",
    "Grüße aus Köln, 東京 and Владивосток! 👩‍👩‍👧 family 🎉🎉",
    "hello hello world world the the cat sat on the mat\n\n  indented",
)
SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG = {"bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}


@cache
def byte_level_json() -> bytes:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken("<think>"), AddedToken("two words")])
    return backend.to_str().encode()


@cache
def sentence_piece_json() -> bytes:
    pieces = ["<unk>", *SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", *"abcdefghijklmnopqrstuvwxyzé", "\u2581t", "\u2581th", "\u2581the", "he"]
    merges = [("\u2581", "t"), ("\u2581t", "h"), ("\u2581th", "e"), ("h", "e")]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    backend.normalizer = Normalizers([Prepend("\u2581"), Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<unk>", *SPECIALS])
    return backend.to_str().encode()


def byte_level_files(**config: object) -> dict[str, bytes]:
    return {
        "tokenizer.json": byte_level_json(),
        "tokenizer_config.json": json.dumps(CONFIG | config).encode(),
    }


def byte_level(**config: object) -> ours.Tokenizer:
    return ours.Tokenizer.from_files(byte_level_files(**config))


def sentence_piece(**config: object) -> ours.Tokenizer:
    config = CONFIG | {"eos_token": "</s>", "add_bos_token": True} | config
    return ours.Tokenizer.from_files(
        {
            "tokenizer.json": sentence_piece_json(),
            "tokenizer_config.json": json.dumps(config).encode(),
        }
    )
