import socket

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError
from reward_workers.binding import bind_rewards
from reward_workers.rewards.json_schema import DIALECT, json_schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ('{"name": "Ada", "age": 36}', 1.0),
        ('  {"name": "Ada"}\n', 1.0),
        ('Sure:\n```json\n{"name": "Ada"}\n```\nDone.', 1.0),
        ('```\n{"name": "Ada"}\n```', 1.0),
        ('```json\n{"name": 1}\n```\n```json\n{"name": "Ada"}\n```', 1.0),
        ('<think>{"name": 1}</think>{"name": "Ada"}', 1.0),
        ('{"name": "Ada", "age": -1}', 0.0),
        ('{"name": "Ada", "age": 1.5}', 0.0),
        ('{"name": "Ada", "age": true}', 0.0),
        ('{"age": 3}', 0.0),
        ('{"name": "Ada", "x": 1}', 0.0),
        ('{"name": "Ada", "name": "Bob"}', 0.0),
        ('{"name": "Ada", "age": NaN}', 0.0),
        ('{"name": "Ada", "age": Infinity}', 0.0),
        ('Sure: {"name": "Ada"}', 0.0),
        ('{"name": "Ada"} {"name": "Bob"}', 0.0),
        ("{'name': 'Ada'}", 0.0),
        ('```python\n{"name": "Ada"}\n```', 0.0),
        ("[" * 100_000, 0.0),
        ('{"name": "Ada", "age": ' + "9" * 5_000 + "}", 0.0),
        ('{"name": "' + "a" * 300_000 + '"}', 0.0),
        ("", 0.0),
    ],
)
def test_strict_json_that_fits_is_rewarded(completion, expected):
    assert json_schema([completion], schema=PERSON) == [expected]


def test_each_row_can_have_its_own_schema():
    schemas = [{"type": "integer"}, '{"type": "string"}', None, True]
    found = json_schema(["1"] * 4, schema_column="wanted", wanted=schemas)
    assert found == [1.0, 0.0, None, 1.0]


@pytest.mark.parametrize("schema", [{"type": "nope"}, "{", 3, {"$ref": "http://x.test/s.json"}])
def test_a_rows_schema_that_cannot_be_used_is_an_error(schema):
    with pytest.raises(RewardError, match="the row's schema: "):
        json_schema(["1"], schema_column="wanted", wanted=[schema])


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(RewardError, match="lacks the column 'wanted'"):
        json_schema(["1"], schema_column="wanted")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "set one of"),
        ({"schema": {}, "schema_column": "s"}, "set one of"),
        ({"schema": {"type": "nope"}}, "not valid at type"),
        ({"schema": {"properties": {"a": {"minimum": "x"}}}}, "not valid at properties/a/minimum"),
        ({"schema": {"pattern": "("}}, "not valid at pattern"),
        ({"schema": {"$ref": "http://x.test/s.json"}}, "refers to 'http://x.test/s.json'"),
        ({"schema": {"items": {"$ref": "file:///etc/passwd"}}}, "refers to 'file:"),
        ({"schema": {"$ref": "#/$defs/gone"}}, "refers to '/\\$defs/gone'"),
        ({"schema": {"$ref": "#"}}, "without end"),
        ({"schema": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "draft-07"),
        ({"schema": "text"}, "valid dictionary"),
    ],
)
def test_a_bad_schema_is_found_before_the_run(parameters, message):
    with pytest.raises(ConfigError, match=message):
        bind_rewards([RewardConfig(name="json_schema", **parameters)])


def test_a_schema_may_refer_to_its_own_parts():
    tree = {
        "$schema": DIALECT,
        "$id": "https://x.test/tree",
        "$defs": {"leaf": {"$id": "leaf", "type": "integer"}},
        "anyOf": [{"$ref": "leaf"}, {"type": "array", "items": {"$ref": "#"}}],
    }
    bind_rewards([RewardConfig.model_validate({"name": "json_schema", "schema": tree})])
    found = json_schema(["[1, [2, []]]", '[1, ["2"]]', "[" * 900 + "]" * 900], schema=tree)
    assert found == [1.0, 0.0, 0.0]


def test_nothing_is_ever_fetched(monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    schema = {"if": {"const": 1}, "then": {"$ref": "http://x.test/s.json"}}
    with pytest.raises(RewardError, match="refers to"):
        json_schema(["1"], schema=schema)
