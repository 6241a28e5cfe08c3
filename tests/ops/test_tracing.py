"""Every operator goes through torch.export and, without a graph break, torch.compile."""

import pytest
import torch
from operator_cases import CASES

from deeplab2_d2 import ops

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ops.has_extension(), reason="the compiled operators are not built"),
]


class Call(torch.nn.Module):
    """What torch.export takes: a module."""

    def __init__(self, case):
        super().__init__()
        self.run = case.run

    def forward(self, *tensors):
        return tuple(self.run(*tensors))


@pytest.fixture(params=CASES)
def case(request):
    # A graph of another test's shapes must not be found.
    torch._dynamo.reset()
    return CASES[request.param]


def assert_results_equal(function, case):
    # Other values of the same shapes: nothing may have become a constant.
    for seed in (0, 1):
        inputs = case.make(seed)
        ours, expected = function(*inputs), case.run(*inputs)
        assert len(ours) == len(expected)
        for left, right in zip(ours, expected):
            assert torch.equal(left, right) or torch.allclose(left, right, 0, 0, equal_nan=True)


def called_operators(graph):
    names = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    return {name.split(".")[1] for name in names if name.startswith("deeplab2_d2.")}


def test_exported_program_calls_the_operator_and_gives_its_results(case):
    program = torch.export.export(Call(case), tuple(case.make(0)))
    assert called_operators(program.graph) == set(case.operators)
    assert_results_equal(program.module(), case)


def test_compiled_function_has_one_graph_and_gives_its_results(case):
    graphs = []

    def backend(module, example_inputs):
        graphs.append(module.graph)
        return torch._dynamo.backends.debugging.aot_eager(module, example_inputs)

    compiled = torch.compile(lambda *tensors: case.run(*tensors), fullgraph=True, backend=backend)
    assert_results_equal(compiled, case)
    assert len(graphs) == 1


def test_gradient_of_the_loss_goes_through_compile():
    torch._dynamo.reset()
    logits, labels, weights = CASES["cross_entropy"].make(0)

    def gradient(function):
        leaf = logits.clone().requires_grad_()
        (losses,) = function(leaf, labels, weights)
        return torch.autograd.grad(losses.sum(), leaf)[0]

    run = CASES["cross_entropy"].run
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert torch.equal(gradient(compiled), gradient(run))
