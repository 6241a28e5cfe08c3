"""
Write a trained model as a file that runs without this package.

    python -m deeplab2_d2.export --config-file CONFIG --weights WEIGHTS --format onnx
        [--with-postprocessing] --output FILE [KEY VALUE ...]

The file takes raw RGB images, (N, 3, H, W) float32 of 0 to 255, of any number and size, and gives
the network's raw maps, or with ``--with-postprocessing`` panoptic and semantic labels. It is run
and compared with the model before it is written. See docs/export.md.
"""

import argparse
import sys
from typing import List, Optional

from .command import run_command
from .data.user_code import add_register_argument, register_user_modules
from .engine import ConfigError, add_random_weights_flag, load_config
from .engine.exporting import FORMATS, ExportOptions, Int8Options, export, file_size, quantize


def parse_arguments(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """
    Args:
        arguments: None: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of the model")
    parser.add_argument("--weights", default="", help="of the model; default: MODEL.WEIGHTS")
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--output", required=True, metavar="FILE", help="*.onnx, *.pt2 or *.pt")
    parser.add_argument(
        "--with-postprocessing", action="store_true", help="labels come out, not raw maps"
    )
    parser.add_argument(
        "--int8", action="store_true", help="with --format onnx: convolutions in 8 bits"
    )
    parser.add_argument(
        "--calibration", default="", metavar="FOLDER", help="with --int8: images like those to come"
    )
    parser.add_argument(
        "--calibration-images", type=int, default=32, metavar="K", help="how many of them (32)"
    )
    add_random_weights_flag(parser)
    add_register_argument(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    """
    Export, and print what was compared.

    Raises:
        ConfigError: if arguments, config or model are not for it.
    """
    if args.int8 and (args.format != "onnx" or not args.calibration):
        raise ConfigError("--int8 must be with --format onnx and --calibration FOLDER")
    register_user_modules(args.register)
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    options = ExportOptions(
        kind=args.format,
        output=args.output,
        with_postprocessing=args.with_postprocessing,
        allow_random_weights=args.allow_random_weights,
    )
    if args.int8:
        int8 = Int8Options(folder=args.calibration, num_images=args.calibration_images)
        print(quantize(cfg, options, int8, args.weights))
    else:
        for agreement in export(cfg, options, args.weights):
            print(f"compared with the model, images {agreement}")
    print(f"{args.output}: {file_size(args.output):.1f} MB")


if __name__ == "__main__":
    sys.exit(run_command("export", lambda: main(parse_arguments())))
