"""Statistics of panoptic quality: ours against panopticapi, without reading PNGs on either side."""

import contextlib
import io
from typing import Any, Dict, Iterator
from unittest import mock

import numpy as np
from bench_targets import make_segments
from measuring import measure
from panopticapi import evaluation

from deeplab2_d2.evaluation import panoptic_statistics


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    height, width = (256, 512) if args.quick else (1024, 2048)
    truth, _, infos = make_segments(height, width, num_things=40, num_stuff=11)
    predicted = np.roll(truth, (5, 9), axis=(0, 1))
    present = set(np.unique(truth).tolist())
    areas = np.bincount(truth.ravel(), minlength=len(infos) + 1)
    truth_segments = [
        {**info, "area": int(areas[info["id"]])} for info in infos if info["id"] in present
    ]
    predicted_segments = [{"id": s["id"], "category_id": s["category_id"]} for s in truth_segments]
    categories = {category: {"isthing": int(category >= 11)} for category in range(19)}

    def ours() -> Any:
        return panoptic_statistics(truth, predicted, truth_segments, predicted_segments)

    def peer() -> Any:
        # The maps stand where it would read and decode PNGs.
        maps = iter([truth.astype(np.uint32), predicted.astype(np.uint32)])
        annotations = (
            {"file_name": "", "image_id": 0, "segments_info": truth_segments},
            {"file_name": "", "segments_info": [dict(s) for s in predicted_segments]},
        )
        with mock.patch.object(evaluation.Image, "open", lambda path: next(maps)):
            with mock.patch.object(evaluation, "rgb2id", lambda ids: ids):
                with contextlib.redirect_stdout(io.StringIO()):
                    return evaluation.pq_compute_single_core(0, [annotations], "", "", categories)

    expected, result = peer(), ours()
    for category in categories:
        iou = sum(iou for c, iou in result.matches if c == category)
        if iou != expected[category].iou or (
            result.num_false_positives.get(category, 0) != expected[category].fp
        ):
            raise RuntimeError(f"category {category} differs from panopticapi's")
    yield {
        "name": f"PQ statistics of {height}x{width}, {len(truth_segments)} segments",
        "measurement": measure(ours, repeats=args.repeats),
        "peer": "panopticapi",
        "peer_seconds": measure(peer, repeats=args.repeats).seconds,
    }
