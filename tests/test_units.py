"""Lengths as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegym.errors import ScopegymError
from scopegym.units import NANOMETRES, parse_length, parse_pixel_size, parse_pixels


@pytest.mark.parametrize(
    "text",
    [
        "35.2 pm",
        "0.0352 nm",
        "0.352 Å",
        "35.2pm",
        "  35.2  pm ",
        "3.52e1 pm",
        "0.352 angstrom",
        "0.352 \u212b",  # the Angstrom sign, as some keyboards and formats give it
        "0.352 A\u030a",  # the letter and its ring apart, as macOS writes file names
        "35.2e-6 µm",
        "35.2e-6 μm",
        "3.52E-5 um",
        "35.2 pm/px",
        "35.2 PM",
        "+35.2 pm",
    ],
)
def test_the_same_length_in_many_spellings(text: str):
    assert parse_length(text) == pytest.approx(0.0352, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("35.2", "has no unit"),
        ("35.2 parsec", "unknown unit 'parsec'"),
        ("0 nm", "must be positive"),
        ("-1 nm", "must be positive"),
        ("1e999 nm", "must be positive"),
        ("nm", "not a length"),
        ("", "not a length"),
        ("nan nm", "not a length"),
        ("inf nm", "not a length"),
        ("1.2.3 nm", "not a number"),
        (". nm", "not a number"),
        ("1 nm nm", "not a length"),
        ("1 nm/s", "not a length"),
        ("1,5 nm", "not a length|unknown unit"),
    ],
)
def test_what_is_no_length_is_refused_by_name(text: str, rule: str):
    with pytest.raises(ScopegymError, match=rule) as caught:
        parse_length(text, "pixel size")
    assert "pixel size" in str(caught.value)


@given(st.floats(1e-6, 1e6), st.sampled_from(sorted(NANOMETRES)))
def test_any_number_in_any_unit(number: float, unit: str):
    assert parse_length(f"{number!r} {unit}") == pytest.approx(number * NANOMETRES[unit])


@given(st.text(max_size=12))
def test_any_text_is_a_length_or_a_clear_error(text: str):
    with contextlib.suppress(ScopegymError):
        assert parse_length(text) > 0


@pytest.mark.parametrize("text", ["8 px", "8px", "8.0 pixels", "0.2 nm", "2 Å", "200 pm"])
def test_lengths_become_pixels(text: str):
    assert parse_pixels(text, 0.025) == pytest.approx(8)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("8", "has no unit"),
        ("0 px", "must be positive"),
        ("1.2.3 px", "not a number"),
        ("8 parsec", "unknown unit 'parsec'"),
        ("0.2 nm", "the spacing in px"),
    ],
)
def test_what_is_no_length_in_pixels_is_refused(text: str, rule: str):
    with pytest.raises(ScopegymError, match=rule):
        parse_pixels(text, None, "spacing")


@pytest.mark.parametrize("text", ["1e-30 nm", "9e-6 nm", "0.2 mm", "1e300 nm"])
def test_no_microscope_has_such_pixels(text):
    with pytest.raises(ScopegymError, match="from 1e-05 to 100000 nm, as microscopes have"):
        parse_pixel_size(text)
    assert parse_pixel_size("0.02 nm") == 0.02


def test_a_spacing_in_an_image_of_absurd_pixels_is_refused():
    for size in (1e-30, 1e30):
        with pytest.raises(ScopegymError, match="image's pixel size must be from 1e-05"):
            parse_pixels("0.3 nm", size)
