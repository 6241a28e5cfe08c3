import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deeplab2_d2.visualization.slots import (
    ImageSlots,
    LayerAttention,
    SlotReport,
    SlotSegment,
    SlotStatistics,
)

NAMES = ["traffic light", "building-other-merged", "window-blind"]


@pytest.fixture
def saved():
    return {}


def report(saved, **options):
    options = {"class_names": NAMES, "thing_ids": [0], "feature_depth": 32, **options}
    return SlotReport(saved.__setitem__, **options)


def statistics(counts, num_slots=128):
    """Slots that fired so often, each as two classes."""
    result = SlotStatistics(num_slots, len(NAMES))
    masks = np.full((num_slots, 4, 6), 0.5)
    for slot, count in counts.items():
        for index in range(count):
            result.add([SlotSegment(slot, 1 + index % 2, 1)], masks)
    return result


def test_captions_of_many_firings_and_long_names_do_not_touch(saved):
    report(saved).write_page(statistics({120: 2876, 121: 2876}), [])
    figure = saved["average_masks.png"]
    renderer = FigureCanvasAgg(figure).get_renderer()
    left, right = (text.get_window_extent(renderer) for text in figure.texts)
    assert figure.texts[0].get_text() == (
        "slot 120, 2876 images\nlargest 0.50\nbuilding-other-merged 1…"
    )
    assert left.x1 < right.x0


def test_the_page_tells_how_many_slots_are_silent(saved):
    page = report(saved).write_page(statistics({3: 2, 7: 1}), [("weights", "some.pth")])
    assert "2 slots, the most used above; the other 126 of the network never fired" in page
    assert "building-other-merged 1, window-blind 1" in page and "some.pth" in page
    assert set(saved) == {"joint_distribution.png", "average_masks.png"}
    empty = report(saved).write_page(statistics({}), [])
    assert "No slot was confident enough" in empty and "<img" not in empty


@pytest.mark.parametrize(
    "depth, text", [(3, "(x + 1) / 2"), (32, "first three principal components within the image")]
)
def test_the_page_tells_what_the_colors_of_features_are(saved, depth, text):
    assert text in report(saved, feature_depth=depth).write_page(statistics({}), [])


def one_image():
    """Two heads that attend to other pixels: the first to the left, the second to the right."""
    weights = np.zeros((2, 1, 2, 2))
    weights[0, 0, :, 0] = 0.1
    weights[1, 0, :, 1] = 0.3
    return ImageSlots(
        name="street.jpg",
        pictures={"image": np.zeros((2, 2, 3), np.uint8)},
        small_image=np.zeros((2, 2, 3), np.uint8),
        slot_map=np.full((2, 2), -1),
        chosen=[SlotSegment(9, -1, 0)],
        layers=[LayerAttention("stage5 block1\nstride 16", weights, np.array([[0.2], [0.6]]))],
    )


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_the_attention_of_a_layer_is_the_mean_of_its_heads(saved):
    report(saved).add_image(one_image())
    assert set(saved) == {"image1_image.png", "image1_attention.png"}
    _, mean = pictures(saved["image1_attention.png"])
    # 0.05 and 0.15: a third of the largest is the ramp's red, a third as opaque; then white.
    assert mean[0].tolist() == [[85, 0, 0], [255, 255, 255]]
    texts = [text.get_text() for text in saved["image1_attention.png"].texts]
    assert "slot 9\nnot in the map" in texts and "40% on pixels" in texts


def test_heads_have_pictures_of_their_own(saved):
    report(saved, draws_heads=True).add_image(one_image())
    _, first, second = pictures(saved["image1_heads1.png"])
    assert first[0].tolist() == [[255, 255, 255], [0, 0, 0]]
    assert second[0].tolist() == [[0, 0, 0], [255, 255, 255]]
