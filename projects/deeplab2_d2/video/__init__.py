"""Identity over frames, and what runs a model over a sequence."""

from .iou_tracking import IouTrackState, start_iou_tracks, track_by_overlap
from .optical_flow import Flow, estimate_flow, warp_back
from .segment_runs import SegmentRuns, Segments, find_runs, find_segments
from .sequence_runner import SequenceRunner
from .stitching import StitchState, continue_stitching, stitch
from .tracked_segmenter import TrackedSegmenter, label_panoptic_seg
from .tracking import TrackState, continue_tracks, draw_centers, find_instances, start_tracks

__all__ = [
    "Flow",
    "IouTrackState",
    "SegmentRuns",
    "Segments",
    "SequenceRunner",
    "StitchState",
    "TrackState",
    "continue_stitching",
    "TrackedSegmenter",
    "continue_tracks",
    "draw_centers",
    "estimate_flow",
    "find_instances",
    "find_runs",
    "find_segments",
    "label_panoptic_seg",
    "start_iou_tracks",
    "start_tracks",
    "stitch",
    "track_by_overlap",
    "warp_back",
]
