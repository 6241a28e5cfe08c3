"""Identity over the frames of a video."""

from .segment_runs import SegmentRuns, Segments, find_runs, find_segments
from .stitching import stitch
from .tracking import TrackState, continue_tracks, draw_centers, find_instances, start_tracks

__all__ = [
    "SegmentRuns",
    "Segments",
    "TrackState",
    "continue_tracks",
    "draw_centers",
    "find_instances",
    "find_runs",
    "find_segments",
    "start_tracks",
    "stitch",
]
