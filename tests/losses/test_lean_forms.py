"""The lean forms of the losses equal the plain ones, and need little memory."""

from dataclasses import replace

import bench_max_loss
import pytest
import torch
from max_loss_inputs import VOID, make_targets, random_outputs, random_targets
from measuring import allocated_peak

from deeplab2_d2.losses import (
    MaXDeepLabLossOptions,
    instance_discrimination_loss,
    mask_losses,
    match_masks,
    match_overlaps,
    max_deeplab_losses,
    measure_overlaps,
    pixel_chunks,
    pixel_contrastive_loss,
    topk_cross_entropy,
)

OPTIONS = [
    MaXDeepLabLossOptions(),
    MaXDeepLabLossOptions(similarity="sum", temperature=0.1),
    MaXDeepLabLossOptions(unmatched_weight="one"),
    MaXDeepLabLossOptions(
        mask_id_top_k=0.5, instance_discrimination_top_k=0.4, semantic_top_k=0.3, alpha=0.6
    ),
    MaXDeepLabLossOptions(num_samples=20, instance_discrimination_top_k=0.7),
]


@pytest.fixture(params=["chunks of 2 pixels", "one chunk"])
def chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(pixel_chunks, "_CHUNK_ELEMENTS", 30)


def compute_all(outputs, semantic_logits, targets, labels, options, autocast=False):
    """Losses by name, metrics, and the gradients of a sum in which every loss counts otherwise."""
    torch.manual_seed(3)  # of the draw of samples
    weights = torch.linspace(0, 3, labels[0].numel()).view_as(labels[0]).expand_as(labels)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses, metrics = max_deeplab_losses(
            *outputs,
            targets,
            options,
            semantic_logits=semantic_logits,
            semantic_labels=labels,
            semantic_weights=weights,
            ignore_label=VOID,
        )
    factors = torch.linspace(0.5, 2.0, 2 * len(losses)).view(-1, 2)
    total = (torch.stack(list(losses.values())) * factors).sum()
    return losses, metrics, torch.autograd.grad(total, [*outputs, semantic_logits])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("num_slots", [3, 6])
def test_lean_losses_metrics_and_gradients_equal_the_plain_ones(options, num_slots, chunks):
    # The plain matching is in float32, so are weights and dice; all else is in float64.
    targets = random_targets()
    outputs = random_outputs(targets, num_slots)
    semantic_logits = torch.randn(2, 4, 4, 9, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (2, 4, 9))
    labels[0, 1] = VOID
    lean, plain = (
        compute_all(outputs, semantic_logits, targets, labels, replace(options, form=form))
        for form in ("lean", "plain")
    )
    assert list(lean[0]) == list(plain[0]) and len(lean[0]) == 5
    assert list(lean[1]) == list(plain[1])
    for ours, theirs in zip(lean[:2], plain[:2]):
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=2e-6, atol=1e-7, msg=name)
    for ours, theirs in zip(lean[2], plain[2]):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-7)


def test_matching_of_overlaps_is_that_of_probabilities(chunks):
    targets = random_targets()
    mask_logits, class_logits, _ = random_outputs(targets, dtype=torch.float32)
    plain = match_masks(targets, mask_logits.softmax(1), class_logits)
    lean = match_overlaps(targets, measure_overlaps(mask_logits, targets), class_logits)
    assert torch.equal(lean.slots, plain.slots)
    for name in ("mask_weights", "class_weights", "class_labels", "class_confidence", "dice"):
        torch.testing.assert_close(getattr(lean, name), getattr(plain, name))


def test_gradients_of_lean_mask_losses_are_derivatives(chunks):
    targets = random_targets(has_crowds=False)
    mask_logits, class_logits, _ = random_outputs(targets)
    matching = match_masks(targets, mask_logits.float().softmax(1), class_logits)

    def losses(mask_logits, class_logits):
        terms = mask_losses(mask_logits, class_logits, targets, matching, mask_id_top_k=0.6)
        return terms.class_term, terms.mask_term, terms.mask_id

    assert torch.autograd.gradcheck(losses, (mask_logits, class_logits))
    strided = mask_logits.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    assert torch.autograd.gradcheck(losses, (strided, class_logits))


def test_gradients_of_lean_discrimination_are_derivatives(chunks):
    targets = random_targets(has_crowds=False)
    _, _, features = random_outputs(targets)

    def full(features):
        return instance_discrimination_loss(features, targets, top_k_percent=0.5)

    def sampled(features):
        torch.manual_seed(0)  # the same draw
        # Few enough that no pixel without a mask is drawn: its gradient is not that of its loss.
        return pixel_contrastive_loss(features, targets, num_samples=16)

    assert (targets.mask_ids >= 0).sum(1).min() >= 16
    assert torch.autograd.gradcheck(full, (features,))
    assert torch.autograd.gradcheck(sampled, (features,))


def test_gradient_of_the_lean_cross_entropy_is_the_derivative(chunks):
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(3, (2, 7, 9))
    labels[:, :3] = VOID
    weights = torch.rand(2, 7, 9)
    losses = {
        form: topk_cross_entropy(
            logits, labels, weights, ignore_label=VOID, top_k_percent=0.5, form=form
        )
        for form in ("lean", "plain")
    }
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in losses.values()]
    torch.testing.assert_close(losses["lean"], losses["plain"])
    torch.testing.assert_close(*gradients)


def test_masks_without_features_have_no_direction():
    # The mean feature of mask 0 is 0 for lack of a direction: similarity 0 with all pixels.
    targets = make_targets(
        torch.tensor([[[2, 2, 0]]]), torch.tensor([[[0, 0, -1]]]), torch.tensor([[2]])
    )
    features = torch.tensor([[[1.0, -1.0, 0.6], [0.0, 0.0, 0.8]]], requires_grad=True)
    gradients = []
    for form in ("lean", "plain"):
        loss = instance_discrimination_loss(features, targets, form=form)
        gradients.append(torch.autograd.grad(loss.sum(), features)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("form", ["lean", "plain"])
def test_losses_are_float32_under_bfloat16_autocast(form):
    targets = random_targets()
    options = MaXDeepLabLossOptions(form=form)
    outputs = random_outputs(targets, dtype=torch.float32)
    semantic_logits, labels = torch.randn(2, 4, 4, 9, requires_grad=True), torch.randint(
        4, (2, 4, 9)
    )
    expected = compute_all(outputs, semantic_logits, targets, labels, options)
    actual = compute_all(outputs, semantic_logits, targets, labels, options, autocast=True)
    for ours, theirs in zip(actual[:2], expected[:2]):
        assert all(value.dtype == torch.float32 for value in ours.values())
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for ours, theirs in zip(actual[2], expected[2]):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("form", ["lean", "plain"])
@pytest.mark.parametrize("num_samples", [0, 20])
def test_bfloat16_outputs_have_the_losses_of_their_float32_copies(form, num_samples):
    targets = random_targets()
    options = MaXDeepLabLossOptions(form=form, num_samples=num_samples)
    semantic_logits, labels = torch.randn(2, 4, 4, 9), torch.randint(4, (2, 4, 9))
    half = [
        output.detach().bfloat16().requires_grad_()
        for output in (*random_outputs(targets), semantic_logits)
    ]
    full = [output.detach().float().requires_grad_() for output in half]
    actual = compute_all(half[:3], half[3], targets, labels, options, autocast=True)
    expected = compute_all(full[:3], full[3], targets, labels, options)
    for name, value in actual[0].items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[0][name])
    for ours, theirs in zip(actual[2], expected[2]):
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours, theirs.bfloat16())


def test_gradient_can_be_taken_twice_and_leaves_inputs_alone():
    targets = random_targets()
    outputs = random_outputs(targets)
    before = [output.detach().clone() for output in outputs]
    losses, _ = max_deeplab_losses(*outputs, targets, MaXDeepLabLossOptions())
    total = torch.stack(list(losses.values())).sum()
    first = torch.autograd.grad(total, outputs, retain_graph=True)
    second = torch.autograd.grad(2 * total, outputs)
    for once, twice in zip(first, second):
        torch.testing.assert_close(2 * once, twice)
    assert all(torch.equal(output, copy) for output, copy in zip(outputs, before))


def test_unknown_form_is_refused():
    with pytest.raises(ValueError, match=r"form must be one of \('lean', 'plain'\), got 'thin'"):
        MaXDeepLabLossOptions(form="thin")


@pytest.mark.slow
def test_losses_and_gradients_take_at_most_1_2_of_the_memory_of_their_inputs():
    inputs = bench_max_loss.make_inputs(641, "cpu")
    call = bench_max_loss.loss_and_gradients(inputs, "lean")
    # The gradients alone are 0.9.
    assert allocated_peak(call) <= 1.2 * sum(tensor.nbytes for tensor in inputs.values())
