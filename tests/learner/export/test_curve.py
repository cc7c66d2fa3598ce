import xml.etree.ElementTree as ET

import pytest

from learner.export.curve import BOTTOM, HEIGHT, LEFT, MAX_POINTS, RIGHT, TOP, WIDTH, curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def places(text):
    [line] = ET.fromstring(text).findall(f"{SVG}polyline")
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]


def texts(text):
    return [element.text for element in ET.fromstring(text).findall(f"{SVG}text")]


def test_a_curve_by_hand():
    # steps 1 to 3 fill the width, 0.25 to 0.75 the height
    svg = curve_svg([(1, 0.25), (2, 0.75), (3, 0.5)], "mine", exported=2)
    middle = (LEFT + WIDTH - RIGHT) / 2
    top, bottom = TOP, HEIGHT - BOTTOM
    assert places(svg) == [(LEFT, bottom), (middle, top), (WIDTH - RIGHT, (top + bottom) / 2)]
    assert texts(svg) == ["mine", "0.75", "0.25", "1", "step 3", "exported: 2"]
    assert f'd="M{middle} {TOP}V' in svg


@pytest.mark.parametrize("points", [[(4, 0.5)], [(1, 0.5), (2, 0.5)]])
def test_a_single_point_and_a_flat_curve_are_drawn(points):
    svg = curve_svg(points, "mine", exported=points[-1][0])
    assert "nan" not in svg
    assert (
        ET.fromstring(svg).find(f"{SVG}{'circle' if len(points) == 1 else 'polyline'}") is not None
    )


def test_a_long_curve_is_drawn_by_means_and_stays_small():
    points = [(step, step % 2) for step in range(1, 100_001)]
    svg = curve_svg(points, "mine", exported=100_000)
    assert len(places(svg)) == MAX_POINTS
    assert len(svg) < 10_000


def test_a_title_is_only_ever_text():
    svg = curve_svg([(1, 0.5)], "</svg><script>&", exported=1)
    assert texts(svg)[0] == "</svg><script>&"
