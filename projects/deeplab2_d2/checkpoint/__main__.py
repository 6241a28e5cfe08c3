"""``python -m deeplab2_d2.checkpoint {convert,inspect,compare}``."""

import argparse
import sys
from typing import List, Optional

from tabulate import tabulate

from ..command import run_command
from .convert import Changes, build_meta_model, convert, load_config, parse_class_map
from .deeplab2_checkpoint import DeepLab2Checkpoint, find_prefix
from .load import find_parameter
from .names import last_layers
from .weights_file import read_weights


def _convert(options: argparse.Namespace) -> int:
    changes = Changes(
        dropped=options.drop_last_layers,
        stem_channels=options.stem_channels,
        class_map=None if options.class_map is None else parse_class_map(options.class_map),
    )
    report = convert(
        options.source,
        options.target,
        changes=changes,
        model=build_meta_model(load_config(options.config)) if options.config else None,
        allow_partial=options.partial,
        show_progress=True,
    )
    if report.table():
        print(report.table())
    print(f"{options.target}: {report.summary()}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    rows = []
    if find_prefix(options.source) is not None:
        checkpoint = DeepLab2Checkpoint(options.source)
        for key, shape in checkpoint.shapes().items():
            parameter = find_parameter(key)
            rows.append((key, shape, parameter.name if parameter else "-"))
        print(tabulate(rows, headers=("TensorFlow's key", "shape", "name")))
        print(f"{len(checkpoint)} weights, {len(checkpoint.ignored)} other tensors")
        if options.verify:
            print(f"{checkpoint.verify()} checksums are right")
        return 0
    weights, _ = read_weights(options.source)
    for name, value in weights.items():
        rows.append((name, tuple(value.shape), str(value.dtype).partition(".")[2]))
    print(tabulate(rows, headers=("name", "shape", "type")))
    print(f"{len(weights)} weights, {sum(value.numel() for value in weights.values())} numbers")
    return 0


def _compare(options: argparse.Namespace) -> int:
    first, second = (read_weights(path)[0] for path in (options.first, options.second))
    rows = [(name, "only in the first", "") for name in first if name not in second]
    rows += [(name, "only in the second", "") for name in second if name not in first]
    for name in first:
        if name not in second:
            continue
        if first[name].shape != second[name].shape:
            shapes = f"{tuple(first[name].shape)} and {tuple(second[name].shape)}"
            rows.append((name, "shapes differ", shapes))
        elif first[name].numel():
            error = (first[name].double() - second[name].double()).abs().max().item()
            if not error <= options.tolerance:
                rows.append((name, "values differ", f"{error:.3g}"))
    if rows:
        print(tabulate(rows, headers=("name", "", "")))
    print(f"{len(set(first) | set(second)) - len(rows)} equal, {len(rows)} different")
    return 1 if rows else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.checkpoint",
        description="Checkpoints of DeepLab2 (TensorFlow) and of this package.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    source = "DeepLab2's checkpoint (prefix, index, folder, archive), .pth or .safetensors"

    command = commands.add_parser("convert", help="write weights as .pth or .safetensors")
    command.set_defaults(run=_convert)
    command.add_argument("source", help=source)
    command.add_argument("target", help=".pth or .safetensors")
    command.add_argument("--config", help="YAML of the model that the weights must fit")
    command.add_argument("--partial", action="store_true", help="write what fits all the same")
    command.add_argument(
        "--drop-last-layers", nargs="+", choices=list(last_layers()), default=[], help="leave out"
    )
    command.add_argument(
        "--stem-channels", type=int, help="input channels; new ones start at zero (video: 7)"
    )
    command.add_argument(
        "--class-map", help="old class of each new one: 0,3,-1 or a JSON file or coco133"
    )

    command = commands.add_parser("inspect", help="list the weights of a checkpoint")
    command.set_defaults(run=_inspect)
    command.add_argument("source", help=source)
    command.add_argument("--verify", action="store_true", help="check every checksum")

    command = commands.add_parser("compare", help="compare the weights of two checkpoints")
    command.set_defaults(run=_compare)
    command.add_argument("first", help=source)
    command.add_argument("second", help=source)
    command.add_argument("--tolerance", type=float, default=0.0, help="largest difference allowed")
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    """The command. Returns the exit status: 1 if weights differ, 2 for a file that is refused."""
    options = _parser().parse_args(arguments)
    return run_command("checkpoint", options.run, options, status=2)


if __name__ == "__main__":
    sys.exit(main())
