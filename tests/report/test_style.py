"""The palette, judged by others' formulas: WCAG contrast, and simulated colour blindness."""

import itertools

import numpy as np
import pytest

from unrolled.report.style import DASHES, GROUND, MAPS, PALETTE, style

# Machado, Oliveira and Fernandes (2009), severity 1.0; on linear RGB
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(rgb):
    """CIE L*a*b* of linear RGB, white D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_stands_out_from_the_ground(theme):
    ground = luminance(GROUND[theme])
    for colour in PALETTE[theme]:
        high, low = sorted((luminance(colour), ground), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3.0, colour  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", DEFICIENCIES)
def test_all_colours_stay_apart_for_colour_blind_readers(theme, name):
    seen = [lab(np.array(DEFICIENCIES[name]) @ linear(colour)) for colour in PALETTE[theme]]
    for a, b in itertools.combinations(range(8), 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 10, (a, b)


def test_no_two_of_32_lines_look_the_same_and_neighbours_differ_in_dash():
    styles = [style(i) for i in range(32)]
    assert len(set(styles)) == 32
    assert all(a[1] != b[1] for a, b in itertools.pairwise(styles[:8]))
    assert {dash for _, dash in styles} == set(DASHES)


def test_the_sequential_map_is_told_from_dark_to_bright_without_colour():
    brightness = [luminance(colour) for colour in MAPS["sequential"]]
    assert brightness == sorted(brightness)
