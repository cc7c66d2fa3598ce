import json
import shutil
from types import SimpleNamespace

import pytest

from protocol.config_model import ModelSection
from protocol.errors import ConfigError
from protocol.model_folder import BUILTIN
from protocol.tokenizer import load_tokenizer, resolve_thinking, set_up_tokenizer

TINY = BUILTIN / "tiny"
CHAT = [{"role": "user", "content": "1+2="}]


def section(**keys):
    return ModelSection.model_validate({"path": "builtin:tiny", **keys})


def rendered(tokenizer, **options):
    return tokenizer.apply_chat_template(
        CHAT, add_generation_prompt=True, tokenize=False, **options
    )


@pytest.fixture
def template(tmp_path):
    """The path of a jinja file."""

    def write(text):
        path = tmp_path / "chat.jinja"
        path.write_text(text)
        return str(path)

    return write


def test_a_template_of_ones_own_gets_the_configured_arguments(template):
    path = template("{{ messages[0].content }}{% if shout %}!{% endif %}<|assistant|>")
    shouting = load_tokenizer(section(chat_template=path, chat_template_args={"shout": True}), TINY)
    assert shouting.has_chat_template
    assert rendered(shouting) == "1+2=!<|assistant|>"
    assert rendered(shouting, shout=False) == "1+2=<|assistant|>"
    ids = shouting.apply_chat_template(CHAT, add_generation_prompt=True)
    assert ids == shouting.encode("1+2=!<|assistant|>")
    assert rendered(load_tokenizer(section(), TINY)) == "<|user|>1+2=<|assistant|>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ raise_exception('only one turn, please') }}", "only one turn, please"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages.nobody.name }}", "nobody"),
    ],
)
def test_a_template_that_fails_is_named_with_its_words(template, text, words):
    path = template(text)
    tokenizer = load_tokenizer(section(chat_template=path), TINY)
    with pytest.raises(ConfigError, match=f"the chat template {path} failed: .*{words}"):
        rendered(tokenizer)


def test_a_template_that_is_not_there_is_missed_when_a_prompt_is_made(tmp_path):
    path = str(tmp_path / "none.jinja")
    tokenizer = load_tokenizer(section(chat_template=path), TINY)  # as an actor does
    with pytest.raises(ConfigError, match=r"none\.jinja cannot be read: No such file"):
        rendered(tokenizer)


def test_stop_tokens_are_all_of_the_models_own_and_the_configured(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    own = load_tokenizer(section(), folder)
    named = own.get_vocab()
    assert own.eos_token_ids == {named["<|end|>"]} == {5}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    several = load_tokenizer(section(stop_tokens=["<|unk|>", "7"]), folder)
    # generation_config.json's list, the tokenizer's own, and the two; "7" is a text, not an id
    assert several.eos_token_ids == {3, 4, 5, named["<|unk|>"], named["7"]}
    assert named["7"] != 7


def test_an_unknown_stop_token_is_refused_with_near_names():
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(section(stop_tokens=["<|im_end|>"]), TINY)
    text = str(caught.value)
    assert "'<|im_end|>'" in text
    assert "did you mean '<|end|>'" in text


def test_a_damaged_tokenizer_is_a_sentence(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot load the tokenizer of builtin:tiny: "):
        load_tokenizer(section(), folder)


class Thinker(SimpleNamespace):
    """What is used of a TokenizerWrapper; its template is a function of the arguments."""

    has_chat_template = True
    has_thinking = True
    think_start, think_end = "<think>", "</think>"
    all_special_tokens = ()

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt, **arguments):
        assert add_generation_prompt
        assert not tokenize
        return self.ending(arguments)


def resolved(ending, **keys):
    tokenizer, given = Thinker(ending=lambda arguments: ending), section(**keys)
    set_up_tokenizer(tokenizer, given)
    found = resolve_thinking(given, tokenizer)
    assert resolve_thinking(found, tokenizer) == found
    return found.think_tags, found.prompt_opens_thought


TAGS = ("<think>", "</think>")


@pytest.mark.parametrize(
    ("ending", "keys", "wanted"),
    [
        ("<|assistant|>\n", {}, (TAGS, False)),
        ("<|assistant|>\n<think>\n", {}, (TAGS, True)),
        ("<|assistant|>\n<think>\n\n</think>\n\n", {}, (TAGS, False)),
        ("<think>", {"chat_template_args": {"enable_thinking": False}}, ("none", False)),
        ("<think>", {"chat_template_args": {"enable_thinking": True}}, (TAGS, True)),
        ("<think>", {"think_tags": "none"}, ("none", False)),
        ("<a>", {"think_tags": ["<a>", "</a>"]}, (("<a>", "</a>"), True)),
        ("<think>", {"prompt_opens_thought": False}, (TAGS, False)),
        ("", {"prompt_opens_thought": True}, (TAGS, True)),
    ],
)
def test_tags_are_the_tokenizers_unless_said_otherwise(ending, keys, wanted):
    assert resolved(ending, **keys) == wanted


def test_a_model_that_does_not_think_has_no_tags():
    tokenizer = load_tokenizer(section(), TINY)
    assert resolve_thinking(section(), tokenizer).think_tags == "none"


def test_tags_that_texts_leave_out_cannot_part_a_thought_from_its_reply(caplog):
    tokenizer = Thinker(ending=lambda arguments: "", all_special_tokens=["</think>"])
    assert resolve_thinking(section(), tokenizer).think_tags == "none"
    assert "</think> is left out of texts" in caplog.text
