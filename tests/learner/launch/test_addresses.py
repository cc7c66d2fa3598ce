import pytest

from learner.launch.addresses import learner_address, run_page_address
from protocol.config import NetworkSection
from protocol.process import this_host


@pytest.mark.parametrize(
    ("bind", "dialled", "opened"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", this_host()),
        ("::1", "[::1]", "[::1]"),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7"),
    ],
)
def test_addresses_can_be_dialled_and_opened(bind: str, dialled: str, opened: str):
    network = NetworkSection(bind=bind, port=4000, http_port=4010, insecure=True)
    assert learner_address(network) == f"tcp://{dialled}:4000"
    assert run_page_address(network) == f"http://{opened}:4010/"


def test_without_http_there_is_no_page():
    assert run_page_address(NetworkSection(http_port=0)) == ""
