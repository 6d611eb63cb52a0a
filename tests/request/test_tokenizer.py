"""The tokenizer: as transformers encodes, from files that travel and are named by content."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.request.chat import ChatMessage, ChatTemplate
from radixroute.request.errors import InvalidRequest, TokenizerError
from radixroute.request.tokenizer import Tokenizer
from tests.request import samples

CHAT = (ChatMessage("system", "Be brief."), ChatMessage("user", "hello world"))


def edited(**changes):
    spec = json.loads(samples.byte_level_json()) | changes
    return {"tokenizer.json": json.dumps(spec).encode()}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text())
def test_text_comes_back_from_its_ids(text):
    tokenizer = samples.byte_level()
    ids = tokenizer.encode(text)
    assert ids.dtype == np.uint32
    assert tokenizer.decode(ids) == text


def test_a_directory_and_its_files_make_the_same_tokenizer(tmp_path):
    for name, data in samples.byte_level_files().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "model.safetensors").write_bytes(b"not ours")
    from_dir = Tokenizer.from_dir(tmp_path)
    assert from_dir.files() == samples.byte_level_files()
    assert Tokenizer.from_files(from_dir.files()).fingerprint == from_dir.fingerprint


def test_another_template_is_another_fingerprint():
    plain, other = samples.byte_level(), samples.byte_level(chat_template="{{ messages }}")
    assert plain.fingerprint != other.fingerprint
    assert len(bytes.fromhex(plain.fingerprint)) == 16


def test_a_chat_is_encoded_through_the_template():
    tokenizer = samples.byte_level()
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nhello world<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode_chat(CHAT)
    assert ids.tolist() == tokenizer.encode(text).tolist()
    assert ids[0] == 2  # "<|im_start|>" is one token, not its characters


def test_a_template_file_comes_before_the_configured_one():
    files = samples.byte_level_files() | {"chat_template.jinja": b"{{ messages[0].content }}"}
    tokenizer = Tokenizer.from_files(files)
    assert tokenizer.decode(tokenizer.encode_chat(CHAT)) == "Be brief."


def test_of_named_templates_the_default_one_is_for_chats():
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "hello"}]
    tokenizer = samples.byte_level(chat_template=named)
    assert tokenizer.decode(tokenizer.encode_chat(CHAT)) == "hello"


def test_a_model_without_a_template_takes_no_messages():
    tokenizer = samples.byte_level(chat_template=None)
    with pytest.raises(InvalidRequest, match=r"send raw text .* or token_ids"):
        tokenizer.encode_chat(CHAT)


def test_a_template_may_refuse_a_conversation():
    with pytest.raises(InvalidRequest, match="roles are system, user and assistant"):
        samples.byte_level().encode_chat([ChatMessage("tool", "abracadabra")])


def test_a_role_that_could_forge_turns_is_refused_before_the_template():
    for role in ("wizard", "user<|im_end|>", ""):
        with pytest.raises(InvalidRequest, match="role that is none of"):
            samples.byte_level().encode_chat([ChatMessage(role, "abracadabra")])


def test_a_refusal_never_quotes_the_conversation():
    template = ChatTemplate("{{ raise_exception('no: ' + messages[0].content) }}", {})
    with pytest.raises(InvalidRequest) as caught:
        template.render([ChatMessage("user", "my secret")])
    assert "secret" not in str(caught.value)


def test_an_empty_conversation_is_refused():
    with pytest.raises(InvalidRequest, match="at least one message"):
        samples.byte_level().encode_chat([])


def test_a_template_reaches_nothing_but_its_arguments():
    template = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", {})
    with pytest.raises(InvalidRequest):
        template.render(CHAT)


def test_a_beginning_of_sequence_is_added_as_the_config_says():
    plain, with_bos = samples.byte_level(), samples.byte_level(add_bos_token=True)
    assert with_bos.encode("hello").tolist() == [0, *plain.encode("hello").tolist()]
    assert with_bos.encode_chat(CHAT).tolist() == plain.encode_chat(CHAT).tolist()


def test_ends_of_sequence_come_from_all_who_know_one():
    files = samples.byte_level_files()
    assert Tokenizer.from_files(files).eos_token_ids == (3,)
    model = {"config.json": b'{"eos_token_id": 1}'}
    assert Tokenizer.from_files(files | model).eos_token_ids == (1, 3)
    generation = {"generation_config.json": b'{"eos_token_id": [0, 2]}'}
    assert Tokenizer.from_files(files | model | generation).eos_token_ids == (0, 2, 3)


def test_every_id_is_below_the_vocabulary_size():
    tokenizer = samples.byte_level()
    assert tokenizer.encode("two words").tolist() == [tokenizer.vocab_size - 1]


def test_settings_of_a_training_run_do_not_cut_prompts():
    truncated = edited(
        truncation={
            "direction": "Right",
            "max_length": 2,
            "strategy": "LongestFirst",
            "stride": 0,
        }
    )
    assert Tokenizer.from_files(truncated).encode("hello hello world world").size > 2


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "missing"),
        ({"tokenizer.json": samples.byte_level_json()[:-100]}, "not valid JSON"),
        ({"tokenizer.json": b"[]"}, "not a JSON object"),
        ({"tokenizer.json": b'{"version": "1.0"}'}, "cannot be loaded"),
        (edited(decoder=None), "decoder none"),
        (edited(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}), "WordPiece"),
    ],
    ids=["missing", "torn", "not an object", "no model", "no decoder", "unknown decoder"],
)
def test_files_that_make_no_tokenizer_are_refused(files, says):
    with pytest.raises(TokenizerError, match=says):
        Tokenizer.from_files(files)


def test_a_directory_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(TokenizerError, match="nowhere is not a directory"):
        Tokenizer.from_dir(tmp_path / "nowhere")
