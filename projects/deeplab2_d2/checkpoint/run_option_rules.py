"""What DeepLab2's options of losses, solver, data and evaluation are called in our config."""

from typing import Dict, List, Optional, Tuple

from .option_rules import OptionRules
from .option_view import ConfigBuilder, Options, is_below

# Why groups of options have no config key.
_TF_RUNNER = "belongs to TensorFlow's runner"
_RESULTS = "results are written by the evaluators, without options"


def read_losses(builder: ConfigBuilder, losses: Options, rules: OptionRules) -> None:
    """Weights and top-k parts. A loss that is not set is not computed: its weight is 0."""
    if not losses.is_set:
        return
    for field, kind, prefix in rules.losses:
        loss = losses.message(field)
        key = f"MODEL.DEEPLAB2.LOSS.{prefix}"
        if not loss.is_set:
            builder.set(key, [0.0, loss.value("top_k_percent")])
            continue
        if kind and loss.value("name") != kind:
            raise ValueError(f"{loss.name('name')} must be {kind!r}, got {loss.value('name')!r}")
        builder.mapped[loss.name("name")] = [key]
        pair = [loss.value("weight"), loss.value("top_k_percent")]
        builder.set(key, pair, loss.name("weight"), loss.name("top_k_percent"))
    rules.read_losses(builder, losses)
    _refuse_rest(builder, losses, "the meta-architecture has no such loss, or not yet")


def _refuse_rest(builder: ConfigBuilder, options: Options, reason: str) -> None:
    """Say why what no rule has read has no equivalent."""
    for field in options.fields():
        name = options.name(field)
        read = (option for told in (builder.mapped, builder.unsupported) for option in told)
        if not any(option == name or is_below(option, name) for option in read):
            builder.refuse(options, field, reason)


def read_trainer(builder: ConfigBuilder, trainer: Options) -> None:
    """Checkpoints; losses and solver have functions of their own."""
    if trainer.has("save_checkpoints_steps"):
        builder.copy(trainer, "save_checkpoints_steps", "SOLVER.CHECKPOINT_PERIOD")
    builder.refuse(trainer, "num_checkpoints_to_keep", "every checkpoint is kept")
    builder.refuse(trainer, "save_summaries_steps", "Detectron2 writes its log every 20 iterations")
    builder.refuse(trainer, "steps_per_loop", _TF_RUNNER)


def read_solver(builder: ConfigBuilder, solver: Options, rules: OptionRules) -> None:
    """Batch norm, optimizer and schedule."""
    is_sync = solver.value("use_sync_batchnorm")
    norm = "SyncBN" if is_sync else "BN"
    builder.set("MODEL.DEEPLAB2.NORM.NAME", norm, solver.name("use_sync_batchnorm"))
    builder.copy(solver, "batchnorm_epsilon", "MODEL.DEEPLAB2.NORM.EPSILON")
    # Keras weighs the old statistics, PyTorch the new. Rounded: 1 - 0.99 is not 0.01 in binary.
    momentum = round(1.0 - solver.value("batchnorm_momentum"), 12)
    builder.set("MODEL.DEEPLAB2.NORM.MOMENTUM", momentum, solver.name("batchnorm_momentum"))
    for field, key in (
        ("base_learning_rate", "BASE_LR"),
        ("warmup_steps", "WARMUP_ITERS"),
        ("training_number_of_steps", "MAX_ITER"),
        ("optimizer", "DEEPLAB2.OPTIMIZER"),
        ("learning_policy", "DEEPLAB2.SCHEDULE"),
        ("poly_learning_power", "DEEPLAB2.POLY_POWER"),
        ("poly_end_learning_rate", "DEEPLAB2.END_LR"),
        ("backbone_learning_rate_multiplier", "DEEPLAB2.BACKBONE_MULTIPLIER"),
    ):
        builder.copy(solver, field, f"SOLVER.{key}")
    # Keras adds factor * |w|^2 to the loss, of which the gradient is 2 * factor * w. DeepLab2's
    # factor is half of its option, unless the model says otherwise.
    decay = solver.value("weight_decay") * rules.weight_decay_factor
    name, other = "weight_decay", "adamw_weight_decay"
    if solver.value("optimizer") == "adamw":
        # Decoupled; DeepLab2's trainer does not add its L2 losses to the total.
        decay, name, other = solver.value(other), other, name
    builder.set("SOLVER.WEIGHT_DECAY", decay, solver.name(name))
    builder.refuse(solver, other, "the optimizer decays weights in another way")
    names = [solver.name(field) for field in ("use_gradient_clipping", "clip_gradient_norm")]
    builder.set("SOLVER.CLIP_GRADIENTS.ENABLED", solver.value("use_gradient_clipping"), *names)
    if solver.value("use_gradient_clipping"):
        builder.set("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model", *names)
        clip = solver.value("clip_gradient_norm")
        builder.set("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", clip, *names)


# DeepLab2's datasets and the registered names of their training and validation parts.
DATASETS: Dict[str, Tuple[str, str]] = {
    "cityscapes_panoptic": ("cityscapes_fine_panoptic_train", "cityscapes_fine_panoptic_val"),
    "coco_panoptic": ("coco_2017_train_panoptic", "coco_2017_val_panoptic"),
    "ade20k_panoptic": ("ade20k_panoptic_train", "ade20k_panoptic_val"),
    "kitti_step": ("kitti_step_panoptic_train", "kitti_step_panoptic_val"),
    "motchallenge_step": ("motchallenge_step_panoptic_train", "motchallenge_step_panoptic_val"),
    "cityscapes_dvps": ("cityscapes_dvps_panoptic_train", "cityscapes_dvps_panoptic_val"),
    "semkitti_dvps": ("semkitti_dvps_panoptic_train", "semkitti_dvps_panoptic_val"),
}

_POLICY = "simple_classification_policy"
# DeepLab2's names of colour policies: our policy and its magnitude.
_AUTOAUGMENT = {
    _POLICY: (_POLICY, 1.0),
    f"{_POLICY}_magnitude_scale_0.2": (_POLICY, 0.2),
}


def _read_dataset_name(builder: ConfigBuilder, dataset: Options, part: int, key: str) -> None:
    name = dataset.value("dataset")
    if name in DATASETS:
        builder.set(f"DATASETS.{key}", (DATASETS[name][part],), dataset.name("dataset"))
    else:
        builder.refuse(dataset, "dataset", f"{name!r} is not registered; set DATASETS.{key}")
    builder.refuse(dataset, "file_pattern", f"files are named by DATASETS.{key}")
    builder.refuse(dataset, "decode_groundtruth_label", "a registered dataset has its annotations")
    builder.refuse(dataset, "cameras_to_use", "no registered dataset has several cameras")
    for field in ("thing_id_mask_annotations", "use_two_frames", "use_next_frame"):
        builder.refuse(dataset, field, "the mapper follows META_ARCHITECTURE")
    builder.refuse(dataset, "resize_factor", "sizes are 1 + a multiple of the stride by padding")


def _resize_value(dataset: Options, field: str) -> int:
    """One number for both sides, 0 where nothing is resized."""
    values = dataset.value(field) or [0]
    if len(set(values)) > 1:
        raise ValueError(f"{dataset.name(field)} must be one number for both sides, got {values}")
    return values[0]


def _crop_size(dataset: Options) -> Optional[List[int]]:
    size = dataset.value("crop_size")
    if size and len(size) != 2:
        raise ValueError(f"{dataset.name('crop_size')} must be a height and a width, got {size}")
    return size or None


# Of a dataset and so many channels: the class map.
_WITH_VOID = {
    ("coco_panoptic", 134): "deeplab2_coco",
    ("ade20k_panoptic", 151): "deeplab2_ade20k",
}


def read_class_map(builder: ConfigBuilder, dataset: Options) -> None:
    """What the semantic channels mean: some of DeepLab2's datasets have void as their first."""
    name, channels = dataset.value("dataset"), builder.values["MODEL.SEM_SEG_HEAD.NUM_CLASSES"]
    if (name, channels) in _WITH_VOID:
        class_map = _WITH_VOID[name, channels]
        builder.set("MODEL.DEEPLAB2.CLASS_MAP", class_map, dataset.name("dataset"))


def read_train_dataset(builder: ConfigBuilder, dataset: Options, rules: OptionRules) -> None:
    """Training data, crop, augmentation and targets."""
    if not dataset.is_set:
        return
    _read_dataset_name(builder, dataset, 0, "TRAIN")
    builder.copy(dataset, "batch_size", "SOLVER.IMS_PER_BATCH")
    crop_size = _crop_size(dataset)
    if crop_size:
        builder.set("INPUT.CROP.ENABLED", True, dataset.name("crop_size"))
        builder.set("INPUT.CROP.TYPE", "absolute", dataset.name("crop_size"))
        builder.set("INPUT.CROP.SIZE", crop_size, dataset.name("crop_size"))
    fields = ("min_resize_value", "max_resize_value")
    sizes = [_resize_value(dataset, field) for field in fields]
    builder.set("INPUT.DEEPLAB2.RESIZE_RANGE", sizes, *map(dataset.name, fields))
    rules.read_train_dataset(builder, dataset)
    _read_augmentations(builder, dataset.message("augmentations"))
    _refuse_rest(builder, dataset, "the meta-architecture has no such targets")


def _read_augmentations(builder: ConfigBuilder, augmentations: Options) -> None:
    builder.set("INPUT.RANDOM_FLIP", "horizontal")
    fields = ("min_scale_factor", "max_scale_factor", "scale_factor_step_size")
    scales = [augmentations.value(field) for field in fields]
    builder.set("INPUT.DEEPLAB2.SCALES", scales, *map(augmentations.name, fields))
    name = augmentations.value("autoaugment_policy_name") or ""
    if name and name not in _AUTOAUGMENT:
        raise ValueError(
            f"{augmentations.name('autoaugment_policy_name')} must be one of "
            f"{', '.join(_AUTOAUGMENT)}, got {name!r}"
        )
    option = augmentations.name("autoaugment_policy_name")
    builder.set("INPUT.DEEPLAB2.AUTOAUGMENT", list(_AUTOAUGMENT.get(name, ())), option)
    paste = augmentations.message("panoptic_copy_paste")
    builder.copy(paste, "panoptic_copy_paste_scale", "INPUT.DEEPLAB2.COPY_PASTE.SCALE")
    kinds = tuple(f"panoptic_copy_paste_{kind}_option" for kind in ("thing", "stuff", "void"))
    pasted = [paste.value(field) for field in kinds]
    builder.set("INPUT.DEEPLAB2.COPY_PASTE.PASTED", pasted, *map(paste.name, kinds))


def read_eval_dataset(builder: ConfigBuilder, dataset: Options) -> None:
    """Evaluation data and size. What only shapes a loss has no effect there."""
    if not dataset.is_set:
        return
    _read_dataset_name(builder, dataset, 1, "TEST")
    crop_size = _crop_size(dataset)
    if crop_size:
        builder.set("TEST.DEEPLAB2.PAD_TO", crop_size, dataset.name("crop_size"))
    for side in ("min", "max"):
        field = f"{side}_resize_value"
        key = f"INPUT.{side.upper()}_SIZE_TEST"
        builder.set(key, _resize_value(dataset, field), dataset.name(field))
    builder.refuse(dataset, "batch_size", "Detectron2's test loader gives one image at a time")
    builder.refuse(dataset, "augmentations", "no augmentation in evaluation")
    for field in (
        "sigma",
        "max_thing_id",
        "increase_small_instance_weights",
        "small_instance_threshold",
        "small_instance_weight",
    ):
        builder.refuse(dataset, field, "no loss is computed in evaluation")


def read_evaluator(builder: ConfigBuilder, evaluator: Options, rules: OptionRules) -> None:
    """Post-processing and evaluation."""
    if evaluator.is_set:
        builder.copy(evaluator, "eval_interval", "TEST.EVAL_PERIOD")
        rules.read_evaluator(builder, evaluator)
    is_flipped, scales = evaluator.value("add_flipped_images"), evaluator.value("eval_scales")
    options = [evaluator.name(f) for f in ("add_flipped_images", "eval_scales") if evaluator.has(f)]
    builder.set("TEST.AUG.ENABLED", is_flipped or scales not in ([], [1.0]), *options)
    if builder.values["TEST.AUG.ENABLED"]:
        builder.set("TEST.AUG.FLIP", is_flipped, *options)
        builder.set("TEST.DEEPLAB2.SCALES", scales or [1.0], *options)
    for fields, reason in _EVALUATOR_UNSUPPORTED:
        for field in fields:
            builder.refuse(evaluator, field, reason)
    _refuse_rest(builder, evaluator, "the meta-architecture has no such post-processing")


_EVALUATOR_UNSUPPORTED = (
    (("eval_steps", "continuous_eval_timeout", "use_tf_function"), _TF_RUNNER),
    (
        ("merge_semantic_and_instance_with_tf_op",),
        "one merge, equal to DeepLab2's in plain TensorFlow, on every device",
    ),
    (
        (
            "save_predictions",
            "override_save_dir",
            "num_vis_samples",
            "save_raw_predictions",
            "raw_panoptic_format",
            "convert_raw_to_eval_ids",
            "detailed_ap_metrics",
        ),
        _RESULTS,
    ),
)
