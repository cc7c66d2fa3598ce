"""protocol/README.md says what the code does: its tables are compared with it."""

import re
from pathlib import Path

from protocol import wire
from protocol.channels import LEARNER, PEER, Channel
from protocol.fields import MAX_GROUP_SIZE, MAX_ITEMS, MAX_TEXT, MAX_TOKENS
from protocol.messages import MESSAGE_TYPES, PROTOCOL_VERSION

README = (Path(__file__).parents[2] / "protocol" / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_of_this_protocol_version():
    assert README.startswith(f"# The wire protocol, version {PROTOCOL_VERSION}\n")


def test_every_message_stands_in_the_readme_with_its_code_and_no_other_does():
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \|", README, re.MULTILINE)
    assert {int(code): name for code, name in listed} == {
        code: message_type.__name__ for code, message_type in MESSAGE_TYPES.items()
    }


def test_the_readmes_limits_are_those_of_the_code():
    for limit in (MAX_GROUP_SIZE, MAX_ITEMS, MAX_TEXT, MAX_TOKENS, wire.MAX_CONTAINERS):
        assert f"{limit:,}" in README
    assert f"{wire.MAX_FRAME_BYTES // 2**20} MiB" in README
    assert f"| frames of a message | {wire.MAX_FRAMES} |" in README


def test_the_readmes_queues_are_those_of_the_code():
    for side, bounds_of in (("learner", LEARNER), ("peer", PEER)):
        for channel in Channel:
            frame_bytes, receive, send = bounds_of[channel]
            kib = frame_bytes // 2**10
            most = f"{kib} KiB" if kib < 2**10 else f"{kib // 2**10} MiB"
            row = f"| {channel.name.lower()} | {side} | {most} | {receive}, {send} |"
            assert row in README
