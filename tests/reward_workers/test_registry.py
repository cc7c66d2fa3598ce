from pathlib import Path

from reward_workers import rewards
from reward_workers.registry import reward


def test_every_file_of_the_rewards_folder_is_a_reward():
    files = Path(rewards.__path__[0]).glob("[a-z]*.py")
    assert reward.names() == tuple(sorted(path.stem for path in files))


def test_a_decorated_function_stays_a_plain_function():
    assert reward.get("length_penalty")(completion_tokens=[1], max_tokens=8, buffer=4) == [0.0]
