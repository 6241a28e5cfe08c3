"""The lean forms of the losses equal the plain ones, and need little memory."""

import bench_max_loss
import plain_forms
import pytest
import torch
from max_loss_inputs import VOID, make_targets, random_outputs, random_targets
from measuring import allocated_peak

from deeplab2_d2.losses import (
    MaskOutputs,
    MaskTransformerLossOptions,
    instance_discrimination_loss,
    mask_losses,
    mask_transformer_losses,
    match_masks,
    measure_overlaps,
    pixel_contrastive_loss,
    pixel_softmax,
    topk_cross_entropy,
)

OPTIONS = [
    MaskTransformerLossOptions(),
    MaskTransformerLossOptions(similarity="sum", temperature=0.1),
    MaskTransformerLossOptions(unmatched_weight="one"),
    MaskTransformerLossOptions(
        mask_id_top_k=0.5, instance_discrimination_top_k=0.4, semantic_top_k=0.3, alpha=0.6
    ),
    MaskTransformerLossOptions(num_samples=20, instance_discrimination_top_k=0.7),
]


@pytest.fixture(params=["chunks of 2 pixels", "one chunk"])
def chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(pixel_softmax, "_CHUNK_ELEMENTS", 30)


def lean_losses(outputs, targets, options, logits, labels, weights, ignore_label):
    return mask_transformer_losses(
        outputs,
        targets,
        options,
        semantic_logits=logits,
        semantic_labels=labels,
        semantic_weights=weights,
        ignore_label=ignore_label,
    )


def compute_all(
    outputs, semantic_logits, targets, labels, options, autocast=False, form=lean_losses
):
    """Losses by name, metrics, and the gradients of a sum in which every loss counts otherwise."""
    torch.manual_seed(3)  # of the draw of samples
    weights = torch.linspace(0, 3, labels[0].numel()).view_as(labels[0]).expand_as(labels)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses, metrics = form(
            [MaskOutputs(*outputs)], targets, options, semantic_logits, labels, weights, VOID
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
        compute_all(outputs, semantic_logits, targets, labels, options, form=form)
        for form in (lean_losses, plain_forms.mask_transformer_losses)
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
    plain = plain_forms.match_probabilities(targets, mask_logits.softmax(1), class_logits)
    lean = match_masks(targets, measure_overlaps(mask_logits, targets), class_logits)
    assert torch.equal(lean.slots, plain.slots)
    for name in ("mask_weights", "class_weights", "class_labels", "class_confidence", "dice"):
        torch.testing.assert_close(getattr(lean, name), getattr(plain, name))


def test_gradients_of_lean_mask_losses_are_derivatives(chunks):
    targets = random_targets(size=(3, 5), has_crowds=False)
    assert (targets.areas > 0).sum(1).tolist() == [4, 4]
    mask_logits, class_logits, _ = random_outputs(targets)
    matching = match_masks(targets, measure_overlaps(mask_logits, targets), class_logits)

    def losses(mask_logits, class_logits):
        overlaps = measure_overlaps(mask_logits, targets)
        terms = mask_losses(
            mask_logits, class_logits, targets, matching, overlaps, mask_id_top_k=0.6
        )
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
    options = {"ignore_label": VOID, "top_k_percent": 0.5}
    lean = topk_cross_entropy(logits, labels, weights, **options)
    plain = plain_forms.cross_entropy(logits, labels[:, ::2, ::2], weights[:, ::2, ::2], **options)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (lean, plain)]
    torch.testing.assert_close(lean, plain)
    torch.testing.assert_close(*gradients)


def test_masks_without_features_have_no_direction():
    # The mean feature of mask 0 is 0 for lack of a direction: similarity 0 with all pixels.
    targets = make_targets(
        torch.tensor([[[2, 2, 0]]]), torch.tensor([[[0, 0, -1]]]), torch.tensor([[2]])
    )
    features = torch.tensor([[[1.0, -1.0, 0.6], [0.0, 0.0, 0.8]]], requires_grad=True)
    lean = instance_discrimination_loss(features, targets)
    plain, _ = plain_forms.discriminate(features, targets, temperature=0.3)
    plain = plain.sum(1) / (plain != 0).sum(1)
    gradients = [torch.autograd.grad(loss.sum(), features)[0] for loss in (lean, plain)]
    torch.testing.assert_close(*gradients)


def test_losses_are_float32_under_bfloat16_autocast():
    targets = random_targets()
    options = MaskTransformerLossOptions()
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


@pytest.mark.parametrize("num_samples", [0, 20])
def test_bfloat16_outputs_have_the_losses_of_their_float32_copies(num_samples):
    targets = random_targets()
    options = MaskTransformerLossOptions(num_samples=num_samples)
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
    losses, _ = mask_transformer_losses(
        [MaskOutputs(*outputs)], targets, MaskTransformerLossOptions()
    )
    total = torch.stack(list(losses.values())).sum()
    first = torch.autograd.grad(total, outputs, retain_graph=True)
    second = torch.autograd.grad(2 * total, outputs)
    for once, twice in zip(first, second):
        torch.testing.assert_close(2 * once, twice)
    assert all(torch.equal(output, copy) for output, copy in zip(outputs, before))


@pytest.mark.slow
def test_losses_and_gradients_take_at_most_1_2_of_the_memory_of_their_inputs():
    inputs = bench_max_loss.make_inputs(641, "cpu")
    call = bench_max_loss.loss_and_gradients(inputs)
    # The gradients alone are 0.9.
    assert allocated_peak(call) <= 1.2 * sum(tensor.nbytes for tensor in inputs.values())
