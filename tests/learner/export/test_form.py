import pytest

from learner.export.form import Form, refuse_contradiction
from protocol.errors import ConfigError

REFUSED = [
    (Form(fuse=True), "full", False, "nothing to fuse: omit --fuse"),
    (Form(bits=4, dtype="float32"), "full", False, "exclude each other"),
    (Form(group_size=32), "full", False, "--group-size is of --quantize"),
    (Form(bits=4), "lora", False, "--quantize is for a model, .* add --fuse"),
    (Form(dequantize=True), "lora", True, "--dequantize is for a model, .* add --fuse"),
    (Form(fuse=True, dequantize=True), "lora", False, "not quantised: leave --dequantize out"),
    (Form(fuse=True, bits=8), "lora", True, "quantised already, .* or add --dequantize"),
]
TAKEN = [
    (Form(), "full", False),
    (Form(), "lora", True),
    (Form(dtype="float32"), "lora", False),
    (Form(bits=4, group_size=32), "full", False),
    (Form(fuse=True, dtype="float16"), "lora", True),
    (Form(fuse=True, bits=8), "lora", False),
    (Form(fuse=True, bits=8, dequantize=True), "lora", True),
]


@pytest.mark.parametrize(("form", "tuning", "is_quantised", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_with_the_remedy(form, tuning, is_quantised, sentence):
    with pytest.raises(ConfigError, match=sentence):
        refuse_contradiction(form, tuning, is_quantised=is_quantised)


@pytest.mark.parametrize(("form", "tuning", "is_quantised"), TAKEN)
def test_what_can_be_is_taken(form, tuning, is_quantised):
    refuse_contradiction(form, tuning, is_quantised=is_quantised)


def test_forms_of_one_step_have_folders_of_their_own():
    forms = {*(form for form, *_ in TAKEN), Form(bits=8)}
    assert len({form.suffix for form in forms}) == len(forms)
    assert Form().suffix == ""
    assert Form(fuse=True, dequantize=True, bits=8).suffix == "-fused-dequantised-8bit"
