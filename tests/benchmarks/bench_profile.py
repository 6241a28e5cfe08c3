"""
Where the time of whole networks goes on a CPU, operation by operation.

Each network is a process of its own, as our programs run it. Its operations are those of PyTorch's
profiler, whose own work is in the times: they are to be compared with each other. What takes less
than a fiftieth is not listed.
"""

import json
import sys
from typing import Any, Dict, Iterator

import bench_forms
from apart import run_apart
from measuring import Measurement

_LEAST_SHARE = 0.02


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device != "cpu":
        print("profiles of networks on a CPU: skipped, --device is not cpu")
        return
    networks = list(bench_forms.NETWORKS.items())[: 1 if args.quick else None]
    for network, (_, size) in networks:
        size = (65, 129) if args.quick else size
        call = {"network": network, "size": size, "repeats": args.repeats}
        shares = run_apart(__file__, call, threads=args.threads)
        total = sum(shares.values())
        for operation, seconds in sorted(shares.items(), key=lambda pair: -pair[1]):
            if seconds >= _LEAST_SHARE * total:
                yield {
                    "name": f"{network}, {size[0]}x{size[1]}: {operation} "
                    f"({100 * seconds / total:.0f} %)",
                    "measurement": Measurement(seconds, seconds, args.repeats, None),
                }


def _profile(call: Dict[str, Any]) -> Dict[str, float]:
    """Seconds of a forward pass in each operation, without those that it calls."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    for step in bench_forms.FORMS["as our programs run it"]:
        step()
    torch.manual_seed(0)
    _, network = bench_forms.build_network(call["network"])
    images = torch.randn(1, 3, *call["size"])
    with torch.inference_mode():
        network(images)
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            for _ in range(call["repeats"]):
                network(images)
    return {
        event.key: event.self_cpu_time_total / 1e6 / call["repeats"]
        for event in recorded.key_averages()
    }


if __name__ == "__main__":
    print(json.dumps(_profile(json.loads(sys.argv[1]))))
