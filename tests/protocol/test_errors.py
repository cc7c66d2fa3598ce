import inspect

import pytest

from protocol import errors
from protocol.errors import TrainerError, UnknownPluginError, VersionError, WireError

ALL = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_a_trainer_error_and_drawn_in_the_tree(error):
    assert issubclass(error, TrainerError)
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_users_mistakes_are_also_the_builtin_errors_that_callers_expect():
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(UnknownPluginError, LookupError)


def test_an_unknown_plugin_without_a_near_name_lists_what_there_is():
    assert str(UnknownPluginError("reward", "zzz", ("length",))) == (
        "unknown reward 'zzz': known are length"
    )
    assert str(UnknownPluginError("reward", "zzz", ())) == "unknown reward 'zzz': known are none"


def test_a_version_error_is_counted_under_its_own_reason():
    error = VersionError(found=2, wanted=1)
    assert isinstance(error, WireError)
    assert (error.found, error.wanted, error.reason) == (2, 1, "protocol_version")
