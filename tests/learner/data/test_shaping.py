import pytest

from learner.data.shaping import shaped
from learner.data.sources import read_source
from protocol.config_data import SourceConfig
from protocol.errors import DataError

ROW = {"question": "2+2?", "target": 4, "id": "q"}


def of(row, prompt_column="prompt", **options):
    return shaped("a.jsonl:3", row, SourceConfig(source="a.jsonl", **options), prompt_column)


def test_columns_get_new_names_and_the_others_stay():
    found = of(ROW, columns={"prompt": "question", "answer": "target"})
    assert found == ({"id": "q", "prompt": "2+2?", "answer": 4}, "prompt")


def test_two_columns_may_change_places():
    row = {"prompt": "x", "answer": "y"}
    found, _ = of(row, columns={"prompt": "answer", "answer": "prompt"})
    assert found == {"prompt": "y", "answer": "x"}


def test_the_template_has_columns_by_their_new_names():
    found, column = of(ROW, columns={"q": "question"}, template="{{{q}}} of {target}: ")
    assert (found["prompt"], column) == ("{2+2?} of 4: ", "prompt")


def test_without_either_the_prompt_column_holds():
    assert of(ROW, "question") == (ROW, "question")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"prompt": "text"}}, "no column 'text' for 'prompt', found question, target"),
        ({"columns": {"id": "question"}}, "the row has a column 'id' of its own"),
        ({"template": "{nobody}"}, "the template wants column 'nobody', found question"),
    ],
)
def test_what_a_row_does_not_have_is_named_with_its_place(options, words):
    with pytest.raises(DataError, match=rf"^a\.jsonl:3: .*{words}"):
        of(ROW, **options)


async def test_a_file_is_read_with_count_columns_and_template(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "one", "a": 1}\n\n{"q": "two", "a": 2}\n{"q": "three", "a": 3}\n')
    source = SourceConfig(source=str(path), count=2, columns={"answer": "a"}, template="Say {q}.")
    rows = await read_source(source, "train", "prompt")
    assert [(row.prompt_id, row.prompt, row.columns) for row in rows] == [
        (f"{path}:1", "Say one.", {"q": "one", "answer": 1}),
        (f"{path}:3", "Say two.", {"q": "two", "answer": 2}),
    ]
    with pytest.raises(DataError, match="holds 3 rows, count asks for 4"):
        await read_source(source.model_copy(update={"count": 4}), "train", "prompt")


async def test_a_generated_source_is_shaped_too():
    source = SourceConfig(source="arithmetic:add2?count=3", template="Add: {prompt}")
    plain = await read_source("arithmetic:add2?count=3", "train", "text")
    found = await read_source(source, "train", "text")
    assert [row.prompt for row in found] == [f"Add: {row.prompt}" for row in plain]
    assert [row.prompt_id for row in found] == [row.prompt_id for row in plain]
