from learner.launch.sparkline import sparkline


def test_the_lowest_and_the_highest_value_have_the_lowest_and_the_highest_block():
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == "▁▂▃▄▅▆▇█"
    assert sparkline([-5.0, 5.0, -5.0]) == "▁█▁"


def test_a_gap_is_a_blank():
    assert sparkline([1.0, None, 2.0]) == "▁ █"
    assert sparkline([None, None]) == ""


def test_a_flat_line_is_in_the_middle():
    assert sparkline([0.5, 0.5, 0.5]) == "▅▅▅"


def test_a_span_too_wide_for_a_float_is_no_error():
    assert len(sparkline([-1.7e308, 1.7e308])) == 2


def test_a_terminal_without_blocks_has_ascii():
    assert sparkline([0.0, 1.0], is_unicode=False) == "_#"
