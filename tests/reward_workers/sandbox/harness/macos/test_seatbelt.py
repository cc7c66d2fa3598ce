"""The profile's text, its parameters, the limits' arithmetic; Seatbelt itself needs a Mac."""

import re
import resource
import subprocess
import sys

import pytest

from reward_workers.sandbox.harness.macos import seatbelt


def read(text):
    """Rules of a profile, as nested lists of words; quotes are kept."""
    text = "\n".join(line.partition(";")[0] for line in text.splitlines())
    stack = [[]]
    for token in re.findall(r'\(|\)|"[^"]*"|[^\s()"]+', text):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    assert len(stack) == 1, "unbalanced"
    return stack[0]


RULES = read(seatbelt.profile(2, 3))


def decision(operation):
    """What the last rule without a filter that names an operation says: the last rule wins."""
    said = None
    for verb, *rest in RULES:
        for word in rest:
            if isinstance(word, str) and re.fullmatch(word.replace("*", ".*"), operation):
                said = verb
    return said


def test_parentheses_balance_and_all_is_denied_first():
    assert RULES[:2] == [["version", "1"], ["deny", "default"]]
    assert {rule[0] for rule in RULES[1:]} == {"allow", "deny"}


@pytest.mark.parametrize(
    "operation",
    ["process-fork", "process-exec", "process-exec-interpreter", "network-outbound",
     "network-bind", "mach-lookup", "mach-register", "iokit-open", "ipc-posix-shm",
     "ipc-sysv-shm"],
)  # fmt: skip
def test_what_leads_outside_is_denied_and_never_allowed_again(operation):
    assert decision(operation) == "deny"


def test_nothing_is_allowed_without_a_filter():
    for verb, *rest in RULES:
        if verb == "allow":
            assert any(isinstance(word, list) for word in rest), rest


def test_signals_and_process_information_end_at_the_worker_itself():
    allowed = [rule[1:] for rule in RULES if rule[0] == "allow"]
    assert ["signal", ["target", "self"]] in allowed
    assert ["process-info*", ["target", "self"]] in allowed
    assert ["deny", "process-info*"] in RULES


def test_writes_are_allowed_below_tmp_and_to_dev_null_alone():
    writes = [
        [word for word in rule[1:] if isinstance(word, list)]
        for rule in RULES
        if rule[0] == "allow" and any(str(word).startswith("file-write") for word in rule)
    ]
    assert sorted(writes) == [
        [["literal", '"/dev/null"']],
        [["subpath", ["param", '"TMP"']]],
    ]


def test_the_arguments_of_other_processes_are_no_sysctl_that_is_allowed():
    (sysctl,) = [rule for rule in RULES if "sysctl-read" in rule]
    names = [word[1] for word in sysctl if isinstance(word, list)]
    assert '"hw."' in names
    assert not any('"kern.proc' in name or name == '"kern."' for name in names)


def test_no_path_of_the_user_is_in_the_text(tmp_path):
    hostile = tmp_path / '") (allow default) (literal "'
    hostile.mkdir()
    values = seatbelt.parameters(str(hostile), [sys.base_prefix])
    text = seatbelt.profile(1, len(values) - 2)
    assert values["TMP"] == str(hostile.resolve())
    assert str(hostile) not in text
    assert "(allow default)" not in text
    assert sys.base_prefix not in text
    named = set(re.findall(r'\(param "(\w+)"\)', text))
    assert named == set(values)


def test_parameters_are_real_paths_with_every_folder_above(tmp_path):
    real = tmp_path / "real" / "python"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    values = seatbelt.parameters(str(tmp_path), [str(tmp_path / "link"), str(real)])
    assert values["READ_0"] == str(real.resolve())
    assert "READ_1" not in values
    above = {value for name, value in values.items() if name.startswith("ABOVE_")}
    assert {str(tmp_path.resolve()), str(tmp_path.resolve() / "real")} <= above
    assert "/" not in above


def test_a_tree_that_holds_the_workers_folders_is_refused(tmp_path):
    (tmp_path / "worker").mkdir()
    for tree in (tmp_path, tmp_path / "worker", "/"):
        with pytest.raises(seatbelt.SeatbeltError, match="holds the folders of all workers"):
            seatbelt.parameters(str(tmp_path / "worker"), [str(tree)])
    (tmp_path / "work").mkdir()
    seatbelt.parameters(str(tmp_path / "worker"), [str(tmp_path / "work")])


def test_the_parameter_array_is_pairs_ended_by_null():
    array = seatbelt.parameter_array({"TMP": "/a", "READ_0": "/é"})
    assert list(array) == [b"TMP", b"/a", b"READ_0", "/é".encode(), None]


def test_denying_the_network_denies_nothing_else():
    assert read(seatbelt.NO_NETWORK) == [
        ["version", "1"],
        ["allow", "default"],
        ["deny", "network*"],
    ]


@pytest.mark.parametrize("size", [0, 1, 5 << 30, 420_000_000_000])
def test_the_present_size_is_found_to_a_megabyte_in_few_steps(size):
    asked = []

    def accepts(limit):
        asked.append(limit)
        return limit >= size

    found = seatbelt.smallest_accepted(accepts, 0, seatbelt.MAX_ADDRESS)
    assert size <= found <= size + (1 << 20)
    assert len(asked) < 32


def test_the_budget_leaves_room_for_the_stacks_of_all_threads():
    # 512 MB for the candidate, 32 * 16 MB of stacks, 128 MB of spare: 1152 MB
    assert seatbelt.address_budget(512 << 20, 32) == 1152 << 20


def test_limits_are_set_on_the_present_size():
    program = (
        "import resource\n"
        "from reward_workers.sandbox.harness.macos import seatbelt\n"
        "seatbelt.MAX_ADDRESS = 1 << 32\n"
        "seatbelt.accepts_address_space = lambda size: size >= 3 << 30\n"
        "seatbelt.set_limits({'cpu_seconds': 4.0, 'max_fds': 64, 'tmp_bytes': 16 << 20,"
        " 'memory_bytes': 512 << 20, 'max_threads': 32})\n"
        "print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[1] for name in"
        " ('CPU', 'NOFILE', 'FSIZE', 'CORE', 'AS')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    cpu, *others = map(int, done.stdout.split())
    assert cpu in (6, 7)  # 4, what starting took (rounded up), and 1
    address_space = (3 << 30) + (1152 << 20)
    assert others == [64, 16 << 20, 0, address_space]


def test_a_soft_limit_that_was_tried_is_put_back():
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert seatbelt.accepts_address_space(1 << 46)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Seatbelt")
def test_without_seatbelt_nothing_is_taken_for_confinement():
    assert seatbelt.missing_symbols() == ["sandbox_init_with_parameters", "sandbox_check"]
    with pytest.raises(seatbelt.SeatbeltError, match="sandbox_check is in none of"):
        seatbelt.confine("/tmp", [], {})
    with pytest.raises(seatbelt.SeatbeltError, match="sandbox_check"):
        seatbelt.deny_network()


def test_inside_another_sandbox_it_refuses(monkeypatch):
    monkeypatch.setattr(seatbelt, "is_sandboxed", lambda: True)
    with pytest.raises(seatbelt.SeatbeltError, match="do not nest: start it from a plain Terminal"):
        seatbelt.deny_network()


@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")
def test_the_network_is_denied_for_good():
    program = (
        "import socket\n"
        "from reward_workers.sandbox.harness.macos import seatbelt\n"
        "seatbelt.deny_network()\n"
        "try: socket.create_connection(('127.0.0.1', 9), timeout=5)\n"
        "except PermissionError: print('denied')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "denied\n", done.stderr
