import numpy as np
import torch
from detectron2.utils.events import EventStorage

from deeplab2_d2.structures import PanopticDeepLabPrediction
from deeplab2_d2.visualization import training_pictures
from deeplab2_d2.visualization.sheets import GAP

COLORS = np.array([[250, 0, 0], [0, 250, 0]])


def _halves(picture, width):
    """Target and prediction of a picture, channels last."""
    picture = picture.transpose(1, 2, 0)[GAP:-GAP]
    return picture[:, GAP : GAP + width], picture[:, 2 * GAP + width : 2 * GAP + 2 * width]


def _sample(size):
    return {
        "image": torch.full((3, size, size), 100.0),
        "sem_seg": torch.zeros(size, size, dtype=torch.int64),
        "center_heatmap": torch.zeros(1, size, size),
        "center_offsets": torch.zeros(2, size, size),
        "offset_weights": torch.ones(size, size),
    }


def _prediction():
    # Of two images, at a fourth of the size: class 1, a heatmap of ones, offsets to the right.
    logits = torch.tensor([0.0, 1.0])[:, None, None].expand(2, 2, 3, 3)
    offsets = torch.tensor([0.0, 2.0])[:, None, None].expand(2, 2, 3, 3)
    return PanopticDeepLabPrediction(logits, torch.ones(2, 1, 3, 3), offsets)


def test_targets_stand_left_of_predictions_at_the_size_of_the_crop():
    pictures = training_pictures(_sample(9), _prediction(), colors=COLORS)
    assert set(pictures) == {"semantic", "center_heatmap", "center_offsets"}
    truth, prediction = _halves(pictures["semantic"], 9)
    assert np.unique(truth.reshape(-1, 3), axis=0).tolist() == [[190, 40, 40]]
    assert np.unique(prediction.reshape(-1, 3), axis=0).tolist() == [[40, 190, 40]]
    truth, prediction = _halves(pictures["center_heatmap"], 9)
    assert truth.max() == 0 and prediction.min() == 255
    truth, prediction = _halves(pictures["center_offsets"], 9)
    assert truth.min() == 255
    assert np.unique(prediction.reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


def test_semantic_only_predictions_have_one_picture_and_panoptic_is_optional():
    prediction = PanopticDeepLabPrediction(_prediction().semantic_logits)
    assert set(training_pictures(_sample(9), prediction, colors=COLORS)) == {"semantic"}
    segmentation = (torch.ones(9, 9, dtype=torch.int32), [{"id": 1, "category_id": 1}])
    pictures = training_pictures(
        _sample(9), prediction, colors=COLORS, panoptic=(segmentation, segmentation)
    )
    truth, _ = _halves(pictures["panoptic"], 9)
    assert truth[0, 0].tolist() == [40, 190, 40]


def test_pictures_are_what_the_event_storage_takes():
    pictures = training_pictures(_sample(9), _prediction(), colors=COLORS)
    with EventStorage() as storage:
        for name, picture in pictures.items():
            storage.put_image(name, picture)
    assert all(picture.dtype == np.uint8 and len(picture) == 3 for picture in pictures.values())
