from reward_workers.registry import reward


def test_every_file_of_the_rewards_folder_is_a_reward():
    assert reward.names() == ("exact_match", "length_penalty", "numeric_match", "regex_format")


def test_a_decorated_function_stays_a_plain_function():
    assert reward.get("length_penalty")(completion_tokens=[1], max_tokens=8, buffer=4) == [0.0]
