"""Identity over frames, and what runs a model over a sequence."""

from .segment_runs import SegmentRuns, Segments, find_runs, find_segments
from .sequence_runner import SequenceRunner
from .stitching import StitchState, continue_stitching, stitch
from .tracking import TrackState, continue_tracks, draw_centers, find_instances, start_tracks

__all__ = [
    "SegmentRuns",
    "Segments",
    "SequenceRunner",
    "StitchState",
    "TrackState",
    "continue_stitching",
    "continue_tracks",
    "draw_centers",
    "find_instances",
    "find_runs",
    "find_segments",
    "start_tracks",
    "stitch",
]
