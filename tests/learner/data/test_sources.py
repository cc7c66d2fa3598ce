import json

import pytest

from learner.data.sources import Row, read_source
from protocol.errors import DataError


def write(path, *lines):
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return str(path)


async def test_rows_carry_place_prompt_and_all_other_columns(tmp_path):
    chat = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1=é"}]
    spec = write(
        tmp_path / "train.jsonl",
        json.dumps({"prompt": "2+2=", "answer": "4", "tags": [1, None]}),
        "  ",
        json.dumps({"prompt": chat}, ensure_ascii=False),
    )
    assert await read_source(spec, "train", "prompt") == [
        Row(f"{spec}:1", "2+2=", {"answer": "4", "tags": [1, None]}),
        Row(f"{spec}:3", chat, {}),
    ]


async def test_the_prompt_column_can_have_another_name(tmp_path):
    spec = write(tmp_path / "a.jsonl", '{"text": "hi", "prompt": "a column like any other"}')
    (row,) = await read_source(spec, "train", "text")
    assert (row.prompt, row.columns) == ("hi", {"prompt": "a column like any other"})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "not JSON"),
        ("[1, 2]", r"found \[1, 2\], wanted a JSON object"),
        ('{"question": 1, "answer": 2}', "no column 'prompt', found question, answer"),
        ("{}", "no column 'prompt', found none"),
        ('{"prompt": 7}', "the prompt is 7, wanted a string or a list"),
        ('{"prompt": null}', "the prompt is null"),
        ('{"prompt": ""}', 'the prompt is "", wanted a string that is not empty'),
        ('{"prompt": " \\n"}', "not empty"),
        ('{"prompt": []}', r"the prompt is \[\]"),
        ('{"prompt": ["hi"]}', 'message 1 is "hi", wanted {"role"'),
        ('{"prompt": [{"role": "user"}]}', "message 1 is"),
        ('{"prompt": [{"role": "user", "content": 3}]}', "message 1: its content is 3"),
        ('{"prompt": [{"role": "usr", "content": "x"}]}', 'role "usr", wanted one of: system'),
        ('{"prompt": [{"role": [], "content": "x"}]}', r"the role \[\]"),
        ('{"prompt": "\\ud800"}', "half a surrogate pair"),
        ('{"prompt": "x", "weight": NaN}', "NaN is no JSON number"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8: .* at byte 15"),
        ("[" * 100_000, "not JSON"),
    ],
)
async def test_a_bad_row_is_refused_with_its_file_and_line(tmp_path, line, found):
    spec = write(tmp_path / "bad.jsonl", '{"prompt": "fine"}', line)
    with pytest.raises(DataError, match=found) as caught:
        await read_source(spec, "train", "prompt")
    assert str(caught.value).startswith(f"{spec}:2: ")


@pytest.mark.parametrize("text", [b"", b"\n \n"])
async def test_an_empty_file_is_refused_by_name(tmp_path, text):
    spec = write(tmp_path / "empty.jsonl", text)
    with pytest.raises(DataError, match=r"empty\.jsonl holds no rows"):
        await read_source(spec, "train", "prompt")


async def test_a_missing_file_or_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"no data file .*gone\.jsonl"):
        await read_source(str(tmp_path / "gone.jsonl"), "train", "prompt")
    with pytest.raises(DataError, match="cannot read data file"):
        await read_source(str(tmp_path), "train", "prompt")


async def test_columns_too_large_for_a_message_are_refused_when_read(tmp_path):
    spec = write(tmp_path / "a.jsonl", json.dumps({"prompt": "x", "doc": "y" * 4_000_000}))
    with pytest.raises(DataError, match=r"a\.jsonl:1: columns of more than 4000000"):
        await read_source(spec, "train", "prompt")


async def test_the_split_of_an_arithmetic_source_comes_from_its_list():
    train = await read_source("arithmetic:add2?count=50", "train", "prompt", seed=1)
    heldout = await read_source("arithmetic:add2?count=50", "heldout", "prompt", seed=1)
    assert len(train) == len(heldout) == 50
    assert train[16].prompt_id == "arithmetic:add2/train:17"
    assert set(train[0].columns) == {"answer"}
    assert not {str(row.prompt) for row in train} & {str(row.prompt) for row in heldout}


async def test_the_seed_chooses_training_rows_and_never_held_out_ones():
    async def read(split, seed):
        return await read_source("arithmetic:add2?count=50", split, "prompt", seed=seed)

    assert await read("train", 1) == await read("train", 1)
    assert await read("train", 1) != await read("train", 2)
    assert await read("heldout", 1) == await read("heldout", 2)


async def test_an_arithmetic_source_without_a_count_is_every_row():
    train = await read_source("arithmetic:add2", "train", "prompt")
    heldout = await read_source("arithmetic:add2", "heldout", "prompt")
    assert len(train) + len(heldout) == 100 * 100


@pytest.mark.parametrize(
    "spec",
    [
        "arithmetic:add2?count=-1",
        "arithmetic:add2?count=",
        "arithmetic:add2?count=x",
        "arithmetic:add2?n=3",
        "arithmetic:add2?count",
        "arithmetic:add2?count=1000000",
        "arithmetic:add2?count=0",
        "arithmetic:nope?count=3",
        "arithmetic:",
    ],
)
async def test_a_bad_arithmetic_source_is_refused(spec):
    with pytest.raises(DataError):
        await read_source(spec, "train", "prompt")
