"""
The points that a depth map shows, as a PLY file and as a picture.

    python -m deeplab2_d2.visualization.point_cloud --depth DEPTH.png
        (--image IMAGE | --segments PANOPTIC.png)
        (--camera CAMERA.json | --camera CALIB.txt | --focal-length PIXELS)
        [--out CLOUD.ply] [--picture CLOUD.png] [--max-depth METERS] [--tilt DEGREES]
        [--turn DEGREES]

DEPTH.png has 16 bits, meters times 256, 0 unknown; PANOPTIC.png has segment ids in its colors.
CAMERA.json is Cityscapes', CALIB.txt KITTI's; a focal length is that of a camera which looks
through the middle of the image. Depth and image are of the size that the camera has.
"""

import argparse
import sys
from typing import List, Optional

import numpy as np
from PIL import Image

from ...command import run_command
from ...data.reading import read_image_bytes
from ...structures import atomic_path, check_not_inputs, read_depth, read_panoptic_png
from . import View, centered_camera, color_segments, draw_view, read_camera, unproject, write_ply


def parse_arguments(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.visualization.point_cloud",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--depth", required=True, metavar="FILE", help="16-bit PNG of depths")
    color = parser.add_mutually_exclusive_group(required=True)
    color.add_argument("--image", metavar="FILE", help="whose colors the points have")
    color.add_argument("--segments", metavar="FILE", help="panoptic PNG; a color for each segment")
    camera = parser.add_mutually_exclusive_group(required=True)
    camera.add_argument("--camera", metavar="FILE", help="intrinsics of Cityscapes or KITTI")
    camera.add_argument("--focal-length", type=float, metavar="PIXELS")
    parser.add_argument("--out", metavar="FILE", help="PLY to write")
    parser.add_argument("--picture", metavar="FILE", help="PNG to write")
    parser.add_argument(
        "--max-depth", type=float, metavar="METERS", help="leave out what is farther"
    )
    parser.add_argument("--tilt", type=float, default=View().tilt, help="of the picture, degrees")
    parser.add_argument("--turn", type=float, default=View().turn, help="of the picture, degrees")
    args = parser.parse_args(arguments)
    if not args.out and not args.picture:
        parser.error("there must be --out or --picture")
    outputs, inputs = (args.out, args.picture), (args.depth, args.image, args.segments, args.camera)
    try:
        check_not_inputs(filter(None, outputs), filter(None, inputs))
    except ValueError as error:
        parser.error(str(error))
    return args


def main(args: argparse.Namespace) -> None:
    depth = read_depth(args.depth)
    if args.max_depth is not None:
        depth = np.where(depth <= args.max_depth, depth, 0.0)
    if args.image:
        colors = read_image_bytes(args.image, "RGB")
    else:
        colors = color_segments(read_panoptic_png(args.segments))
    if colors.shape[:2] != depth.shape:
        raise ValueError(
            f"{args.image or args.segments} must be of the depth's size, {depth.shape}, "
            f"got {colors.shape[:2]}"
        )
    if args.camera:
        camera = read_camera(args.camera)
    else:
        camera = centered_camera(args.focal_length, (depth.shape[0], depth.shape[1]))
    points, is_known = unproject(depth, camera)
    if args.out:
        write_ply(args.out, points, colors[is_known])
        print(f"Wrote {args.out}, {len(points)} points")
    if args.picture:
        picture = draw_view(
            points, colors[is_known], focal_length=camera.focal[1], view=View(args.tilt, args.turn)
        )
        with atomic_path(args.picture) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        print(f"Wrote {args.picture}")


if __name__ == "__main__":
    sys.exit(run_command("point_cloud", lambda: main(parse_arguments())))
