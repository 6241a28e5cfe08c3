"""
Write the tables of docs/backbones.md: parameters and multiply-adds, ours and the papers'.

    python tests/network_table.py [--check]

Nothing is computed but counts, so that a minute suffices without a GPU. With ``--check`` nothing is
written, and the exit status is 1 if the file would change.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import List, Sequence

from tabulate import tabulate

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from network_costs import backbone_config, backbone_costs
from paper_networks import NETWORKS, PaperNetwork
from paper_table5_networks import AUTO_DEEPLAB, HRNET, VISTAS

from deeplab2_d2.backbones import backbone_names

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "backbones.md"
_SIZE = (513, 1025)
# Rows that differ from others by what the config sets, and names for the same network.
_ALIASES = ("swidernet",)
_NETWORKS = (*NETWORKS, *AUTO_DEEPLAB, HRNET, *VISTAS)


def backbone_rows(names: Sequence[str] = backbone_names()) -> List[List[str]]:
    """Name, parameters and multiply-adds of named backbones."""
    rows = []
    for name in names:
        if name not in _ALIASES:
            cfg = backbone_config(name)
            rows.append([f"`{name}`", *_words(*backbone_costs(cfg, _SIZE))])
    return rows


def network_rows(networks: Sequence[PaperNetwork] = _NETWORKS) -> List[List[str]]:
    """Ours, the paper's and, where the paper counts another network, that one's."""
    rows = []
    for network in networks:
        parameters, multiply_adds = network.count()
        worked_out = network.worked_out(network) if network.worked_out else None
        rows.append(
            [
                network.name,
                "{} x {}".format(*network.size),
                *_words(parameters, multiply_adds),
                "-" if network.parameters is None else f"{network.parameters:g} M",
                f"{network.multiply_adds:g} B",
                _difference(multiply_adds, network),
                "" if worked_out is None else f"{worked_out / 1e9:.1f} B",
                "" if worked_out is None else _difference(worked_out, network),
                network.source,
            ]
        )
    return rows


def _words(parameters: int, multiply_adds: int) -> List[str]:
    return [f"{parameters / 1e6:.1f} M", f"{multiply_adds / 1e9:.1f} B"]


def _difference(multiply_adds: int, network: PaperNetwork) -> str:
    return f"{100 * (multiply_adds / 1e9 / network.multiply_adds - 1):+.1f} %"


_HEADERS = {
    "backbones": ("`NAME`", "parameters", "M-Adds"),
    "networks": (
        *("network", "input", "parameters", "M-Adds", "the paper's", "the paper's M-Adds"),
        *("difference", "worked out", "its difference", "source"),
    ),
}


def render(text: str) -> str:
    """The document with new tables between their marks."""
    for name, rows in (("backbones", backbone_rows()), ("networks", network_rows())):
        table = tabulate(rows, _HEADERS[name], tablefmt="github", disable_numparse=True)
        mark = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
        text, count = re.subn(mark, lambda m: m[1] + table + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{DOCUMENT} must have one table called {name!r}, got {count}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of docs/backbones.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it would change")
    args = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = render(before)
    if args.check:
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
