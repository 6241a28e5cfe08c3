import colorsys

import numpy as np

from deeplab2_d2.visualization import hsv_to_rgb, make_class_colors, vary_color


def test_hues_equal_those_of_the_standard_library():
    rng = np.random.default_rng(0)
    hsv = rng.uniform(size=(50, 3))
    expected = [[round(255 * c) for c in colorsys.hsv_to_rgb(*row)] for row in hsv]
    assert hsv_to_rgb(*hsv.T).tolist() == expected


def test_colors_of_133_classes_are_distinct_and_repeatable():
    colors = make_class_colors(133)
    assert len({tuple(color) for color in colors.tolist()}) == 133
    assert np.array_equal(colors, make_class_colors(133))


def test_variants_of_a_color_are_near_it_and_distinct():
    base = np.array([100, 150, 200])
    variants = np.array([vary_color(base, i) for i in range(100)])
    assert variants[0].tolist() == base.tolist()
    assert np.abs(variants.astype(int) - base).max() <= 48
    assert len({tuple(color) for color in variants.tolist()}) > 95
