"""The growth benchmark: what arithmetic says, by hand, and a picture that a browser can read."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.growth import AXES, NEW, Case, Point, picture


def test_flops_by_hand() -> None:
    """Two layers of width 6 and 16: 2·(4·36 + 3·6·16) = 864 weights; a vocabulary of 10: 60 in the head."""
    case = Case(hidden=6, layers=2, vocabulary=10, length=64)
    assert (case.wide, case.body, case.head) == (16, 864, 60)
    assert case.training_flops() == 6 * (864 + 60) + 3 * 4 * 2 * 6 * 64 / 2
    # each of 128 tokens is read once and looks at half of them on average; 64 of them are new
    assert NEW == 64
    assert case.generation_flops() == 2 * 864 * 128 / 64 + 2 * 60 + 4 * 2 * 6 * 128 * 64 / 64


def test_the_picture_has_every_point() -> None:
    found = {
        axis.name: {work: [Point(getattr(case, axis.value), 10.0, 20.0) for case in axis.cases] for work in axis.works}
        for axis in AXES
    }
    root = ElementTree.fromstring(picture(found))
    dots = [one for one in root.iter("{http://www.w3.org/2000/svg}circle") if len(one)]
    assert len(dots) == sum(len(axis.cases) * len(axis.works) for axis in AXES)
    numbers = [float(one.attrib[name]) for one in dots for name in ("cx", "cy")]
    width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
    assert all(0 < number < max(width, height) for number in numbers)
