from pathlib import Path

from learner.jsonl_tail import JsonlTail


def test_a_row_is_read_once_and_only_when_its_line_is_complete(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    tail = JsonlTail(path)
    assert tail.read() == []
    path.write_text('{"step": 1}\n{"st')
    assert tail.read() == [{"step": 1}]
    assert tail.read() == []
    with path.open("a") as file:
        file.write('ep": 2}\n')
    assert tail.read() == [{"step": 2}]


def test_a_file_that_shrank_is_read_from_its_start(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = JsonlTail(path)
    tail.read()
    path.write_text('{"step": 1}\n')
    assert tail.read() == [{"step": 1}]


def test_lines_that_are_no_objects_are_passed_over(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"oops\n[1]\n\xff\n" + b"[" * 100_000 + b'\n{"step": 3}\n')
    assert JsonlTail(path).read() == [{"step": 3}]


def test_a_file_that_was_cut_and_has_grown_beyond_is_read_from_its_start(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = JsonlTail(path)
    assert (tail.read(), tail.restarts) == ([{"step": 1}, {"step": 2}], 0)
    path.write_text('{"step": 1}\n{"step": 7}\n{"step": 8}\n')  # in place: the inode stays
    assert tail.read() == [{"step": 1}, {"step": 7}, {"step": 8}]
    assert tail.restarts == 1


def test_another_file_in_its_place_is_read_from_its_start(tmp_path: Path):
    path, other = tmp_path / "metrics.jsonl", tmp_path / "other"
    path.write_text('{"step": 1}\n')
    tail = JsonlTail(path)
    tail.read()
    other.write_text('{"step": 1}\n{"step": 2}\n')
    other.replace(path)
    assert tail.read() == [{"step": 1}, {"step": 2}]
    assert tail.restarts == 1


def test_many_rows_come_in_batches_and_none_is_lost_between(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    row = '{"step": %d, "text": "' + "x" * 1000 + '"}\n'
    path.write_text("".join(row % step for step in range(3000)))
    batches = list(JsonlTail(path).batches())
    assert len(batches) >= 3
    assert [row["step"] for batch in batches for row in batch] == list(range(3000))
