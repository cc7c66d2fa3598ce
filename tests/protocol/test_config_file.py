import pytest

from protocol.config_file import dump_config, load_config
from protocol.errors import ConfigError

MINIMAL = "model: {path: m}\ndata: {train: [a]}\nrewards: [{name: exact_match}]\n"


@pytest.fixture
def load(tmp_path):
    """Loads a config of the minimal sections and these lines."""

    def load_text(lines="", *overrides, base=MINIMAL):
        path = tmp_path / "run.yaml"
        path.write_bytes((base + lines).encode() if isinstance(lines, str) else lines)
        return load_config(path, overrides)

    return load_text


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("lerner: {}", r"unknown key lerner: did you mean learner\?"),
        ("learner: {optimiser: {}}", r"learner\.optimiser: did you mean optimizer\?"),
        ("learner: {optimizer: {zzz: 1}}", r"unknown key learner\.optimizer\.zzz: known are name"),
        ("run: {seed: many}", r"run\.seed: Input should be a valid integer, .* \(found 'many'\)"),
        ("run: 3", r"run: wanted a section of keys \(found 3\)"),
        ("learner:", r"learner: .* \(found None\)"),
        ("generation: {group_size: 1}", r"generation\.group_size: .* greater than 1 \(found 1\)"),
        ("generation: {temperature: .nan}", r"generation\.temperature: .*finite .*\(found nan\)"),
        ("policy: {weight_dtype: int8}", r"policy\.weight_dtype.*'bfloat16', .* \(found 'int8'"),
        ("network: {bind: 0.0.0.0}", r"network: bind 0\.0\.0\.0 is reachable"),
        ("1: 2", "Keys should be strings"),
        ("run: [", "is no YAML: .*line 4"),
        ("run: {name: 2020-99-99}", "is no YAML: month must be in"),
        ("run: !!python/object:os.system {}", "is no YAML: could not determine a constructor"),
        ("x: " + "[" * 5000, "is no YAML"),
        (b"\0", "is no YAML"),
        (b"run: {name: caf\xe9}", "cannot read config file .*utf-8"),
        (b"", r"is empty: wanted sections such as `run:`"),
        (b"- a\n", "holds list, wanted sections"),
        (b"model: {path: m}\nrewards: [{name: x}]\n", "data is missing"),
        (b"model: {path: m}\ndata: {train: [a]}\nrewards: []\n", "rewards: wanted at least"),
        (b"model: {path: m}\ndata: {train: []}\nrewards: [{name: x}]\n", r"data\.train: .*at l"),
        (b"model: {path: m}\ndata: {train: [a]}\nrewards: [{}]\n", r"rewards\.0\.name is"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_one_sentence_that_names_the_key(load, lines, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(lines)
    assert "run.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"no config file .*gone\.yaml: give --config"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="cannot read config file"):
        load_config(tmp_path)


@pytest.mark.parametrize("override", ["run.seed", "=3", "run.=3", ".seed=3", ""])
def test_an_override_without_a_key_or_equals_sign_is_refused(load, override):
    with pytest.raises(ConfigError, match=r"wanted section\.key=value"):
        load("", override)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("rewards.0.weight=2", "rewards is no section"),
        ("model.path.x=1", "path is no section"),
        ("run.seed=[", r"'\[' is no YAML value"),
        ("run.name=2020-99-99", "is no YAML value"),
        ("run.sed=1", r"unknown key run\.sed: did you mean seed\?"),
        ("run.seed=-1", r"run\.seed: .*greater than or equal to 0 \(found -1\)"),
    ],
)
def test_a_bad_override_is_refused_in_one_sentence(load, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load("", override)


def test_defaults_yield_to_the_file_and_the_file_to_overrides(load):
    assert load().run.seed == 0
    assert load("run: {seed: 1}").run.seed == 1
    assert load("run: {seed: 1}", "run.seed=2").run.seed == 2
    assert load("run: {seed: 1}", "run.seed=2", "run.seed=3").run.seed == 3


def test_an_override_may_make_a_section_and_reads_its_value_as_yaml(load):
    found = load("", "learner.optimizer.learning_rate=1e-6", "data.heldout=[x, y]")
    assert found.learner.optimizer.learning_rate == 1e-6
    assert found.data.heldout == ("x", "y")


def test_a_value_may_hold_equals_signs(load):
    assert load("", "data.train=['arithmetic:add2?count=5']").data.train == (
        "arithmetic:add2?count=5",
    )


def test_another_plugin_name_replaces_the_whole_section(load):
    algorithm = load("algorithm: {name: grpo, clip: 0.2}", "algorithm.name=ppo").algorithm
    assert (algorithm.name, algorithm.parameters) == ("ppo", {})


def test_the_same_plugin_name_or_a_parameter_after_it_keeps_the_section(load):
    lines = "algorithm: {name: grpo, clip: 0.2}"
    assert load(lines, "algorithm.name=grpo").algorithm.parameters == {"clip": 0.2}
    found = load(lines, "algorithm.name=ppo", "algorithm.clip=0.3").algorithm
    assert found.parameters == {"clip": 0.3}


def test_another_run_name_keeps_the_run_section(load):
    run = load("run: {name: a, seed: 7, max_steps: 9}", "run.name=b").run
    assert (run.name, run.seed, run.max_steps) == ("b", 7, 9)


def test_a_dumped_config_loads_back_the_same(load, tmp_path):
    config = load(
        "algorithm: {name: ppo, clip: 1.0e-7, epochs: 3, mask: [1, x, null]}\n"
        "run: {name: 'on'}\nlearner: {optimizer: {learning_rate: 1.0e-6, betas: [0.9, 0.95]}}\n",
        "data.train=['übung.jsonl', 'arithmetic:add2?count=5']",
    )
    saved = tmp_path / "config.yaml"
    saved.write_text(dump_config(config), encoding="utf-8")
    assert load_config(saved) == config


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("generation.stop=['']", "generation.stop"),
        ("generation.max_completion_tokens=2000000", "max_completion_tokens"),
        ("generation.temperature=1e-40", "temperature"),
        ("generation.max_kv_bytes=100000000000000000000000", "max_kv_bytes"),
        ("metal.actor_cache_bytes=100000000000000000000000", "actor_cache_bytes"),
        ("learner.publish.retained=10000000000000000000000000", "retained"),
        ("learner.max_off_policy_steps=10000000000000000000000", "max_off_policy_steps"),
        ('generation.stop=["\\ud800"]', "unicode"),
        ('data.prompt_column="\\ud800"', "no Unicode"),
        ("network.http_port=19553", "http_port 19553 is one of"),
    ],
)
def test_what_no_machine_could_do_is_refused_in_a_sentence(override, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load_config("configs/quickstart.yaml", [override])


def test_a_section_that_stands_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: {path: a}\nlearner: {tuning: lora}\nrun: {}\nlearner: {}\n")
    with pytest.raises(ConfigError, match="learner stands twice, again in line 4: merge"):
        load_config(path)


def test_a_key_that_a_merge_brings_may_be_said_again(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: &m {path: a}\ndata: {train: [x]}\nrewards: [{name: r}]\n"
        "run: {name: one}\nlearner: {optimizer: {<<: {eps: 1.0e-3}, eps: 1.0e-2}}\n"
    )
    assert load_config(path).learner.optimizer.eps == 0.01
