"""
The messages of DeepLab2's experiment options: their fields, types and defaults.

Reference: google-research/deeplab2, ``config.proto``, ``model.proto``, ``trainer.proto``,
``dataset.proto`` and ``evaluator.proto``.
"""

from dataclasses import dataclass
from typing import Any, Dict, Optional

# Types of a field's values. Any other type is the name of a message.
SCALARS = {"bool": bool, "int": int, "float": float, "string": str}


@dataclass(frozen=True)
class Field:
    """One field: its type, the value it has where nothing is said, and whether it repeats."""

    type: str
    default: Any = None
    is_repeated: bool = False

    @property
    def is_message(self) -> bool:
        return self.type not in SCALARS


Message = Dict[str, Field]


def _string(default: Optional[str] = None) -> Field:
    return Field("string", default)


def _int(default: Optional[int] = None) -> Field:
    return Field("int", default)


def _float(default: Optional[float] = None) -> Field:
    return Field("float", default)


def _bool(default: bool) -> Field:
    return Field("bool", default)


def _one(message: str) -> Field:
    return Field(message)


def _many(type: str) -> Field:
    return Field(type, (), is_repeated=True)


MESSAGES: Dict[str, Message] = {
    "ExperimentOptions": {
        "experiment_name": _string(),
        "model_options": _one("ModelOptions"),
        "trainer_options": _one("TrainerOptions"),
        "train_dataset_options": _one("DatasetOptions"),
        "evaluator_options": _one("EvaluatorOptions"),
        "eval_dataset_options": _one("DatasetOptions"),
    },
    "ModelOptions": {
        "backbone": _one("BackboneOptions"),
        "decoder": _one("DecoderOptions"),
        "deeplab_v3": _one("DeeplabV3Options"),
        "deeplab_v3_plus": _one("DeeplabV3PlusOptions"),
        "panoptic_deeplab": _one("PanopticDeeplabOptions"),
        "motion_deeplab": _one("MotionDeepLabOptions"),
        "max_deeplab": _one("MaXDeepLabOptions"),
        "vip_deeplab": _one("PanopticDeeplabOptions"),
        "initial_checkpoint": _string(),
        "restore_semantic_last_layer_from_initial_checkpoint": _bool(True),
        "restore_instance_last_layer_from_initial_checkpoint": _bool(True),
    },
    "BackboneOptions": {
        "name": _string("resnet50"),
        "output_stride": _int(32),
        "pretrained_weights": _string(),
        "use_squeeze_and_excite": _bool(False),
        "drop_path_keep_prob": _float(1.0),
        "drop_path_schedule": _string("constant"),
        "stem_width_multiplier": _float(1.0),
        "backbone_width_multiplier": _float(1.0),
        "backbone_layer_multiplier": _float(1.0),
        "use_sac_beyond_stride": _int(-1),
    },
    "DecoderOptions": {
        "feature_key": _string(),
        "decoder_channels": _int(256),
        "decoder_conv_type": _string("depthwise_separable_conv"),
        "aspp_channels": _int(256),
        "atrous_rates": _many("int"),
        "aspp_use_only_1x1_proj_conv": _bool(False),
    },
    "LowLevelOptions": {"feature_key": _string(), "channels_project": _int()},
    "HeadOptions": {
        "output_channels": _int(),
        "head_channels": _int(),
        "head_conv_type": _string("depthwise_separable_conv"),
        "max_value_after_activation": _float(0.0),
        "min_value_after_activation": _float(0.0),
    },
    "InstanceOptions": {
        "enable": _bool(True),
        "low_level_override": _many("LowLevelOptions"),
        "instance_decoder_override": _one("DecoderOptions"),
        "center_head": _one("HeadOptions"),
        "regression_head": _one("HeadOptions"),
        "next_regression_head": _one("HeadOptions"),
    },
    "DeeplabV3Options": {"num_classes": _int()},
    "DeeplabV3PlusOptions": {"low_level": _one("LowLevelOptions"), "num_classes": _int()},
    "PanopticDeeplabOptions": {
        "low_level": _many("LowLevelOptions"),
        "instance": _one("InstanceOptions"),
        "semantic_head": _one("HeadOptions"),
        "depth_head": _one("HeadOptions"),
    },
    "MotionDeepLabOptions": {
        "low_level": _many("LowLevelOptions"),
        "instance": _one("InstanceOptions"),
        "semantic_head": _one("HeadOptions"),
        "motion_head": _one("HeadOptions"),
    },
    "MaXDeepLabOptions": {
        "pixel_space_head": _one("HeadOptions"),
        "auxiliary_low_level": _many("LowLevelOptions"),
        "auxiliary_semantic_head": _one("HeadOptions"),
        "instance_discrimination_sample_k": _int(0),
        "instance_discrimination_sample_temperature": _float(0.6),
        "semantic_sample_k": _int(0),
        "semantic_sample_temperature": _float(1.0),
    },
    "TrainerOptions": {
        "num_checkpoints_to_keep": _int(5),
        "save_checkpoints_steps": _int(1000),
        "save_summaries_steps": _int(1000),
        "steps_per_loop": _int(1000),
        "loss_options": _one("LossOptions"),
        "solver_options": _one("SolverOptions"),
    },
    "LossOptions": {
        "semantic_loss": _one("SingleLossOptions"),
        "center_loss": _one("SingleLossOptions"),
        "regression_loss": _one("SingleLossOptions"),
        "motion_loss": _one("SingleLossOptions"),
        "next_regression_loss": _one("SingleLossOptions"),
        "pq_style_loss": _one("SingleLossOptions"),
        "mask_id_cross_entropy_loss": _one("SingleLossOptions"),
        "instance_discrimination_loss": _one("SingleLossOptions"),
        "depth_loss": _one("SingleLossOptions"),
    },
    "SingleLossOptions": {"name": _string(), "weight": _float(1.0), "top_k_percent": _float(1.0)},
    "SolverOptions": {
        "use_sync_batchnorm": _bool(True),
        "batchnorm_momentum": _float(0.99),
        "batchnorm_epsilon": _float(0.001),
        "learning_policy": _string("poly"),
        "base_learning_rate": _float(1e-3),
        "poly_learning_power": _float(0.9),
        "poly_end_learning_rate": _float(0.0),
        "warmup_steps": _int(0),
        "optimizer": _string("adam"),
        "weight_decay": _float(0.0),
        "adamw_weight_decay": _float(0.0),
        "use_gradient_clipping": _bool(False),
        "clip_gradient_norm": _float(10.0),
        "training_number_of_steps": _int(60000),
        "backbone_learning_rate_multiplier": _float(1.0),
    },
    "DatasetOptions": {
        "dataset": _string(),
        "file_pattern": _many("string"),
        "batch_size": _int(32),
        "crop_size": _many("int"),
        "min_resize_value": _many("int"),
        "max_resize_value": _many("int"),
        "resize_factor": _int(),
        "augmentations": _one("AugmentationOptions"),
        "sigma": _float(8.0),
        "increase_small_instance_weights": _bool(False),
        "small_instance_threshold": _int(4096),
        "small_instance_weight": _float(3.0),
        "use_two_frames": _bool(False),
        "use_next_frame": _bool(False),
        "decode_groundtruth_label": _bool(True),
        "thing_id_mask_annotations": _bool(False),
        "max_thing_id": _int(128),
        "cameras_to_use": _many("string"),
    },
    "AugmentationOptions": {
        "min_scale_factor": _float(1.0),
        "max_scale_factor": _float(1.0),
        "scale_factor_step_size": _float(0.25),
        "autoaugment_policy_name": _string(),
        "panoptic_copy_paste": _one("PanopticCopyPasteOptions"),
    },
    "PanopticCopyPasteOptions": {
        "panoptic_copy_paste_scale": _float(0.0),
        "panoptic_copy_paste_thing_option": _string("random"),
        "panoptic_copy_paste_stuff_option": _string("random"),
        "panoptic_copy_paste_void_option": _string("none"),
    },
    "EvaluatorOptions": {
        "eval_steps": _int(-1),
        "eval_interval": _int(5000),
        "continuous_eval_timeout": _int(-1),
        "use_tf_function": _bool(True),
        "stuff_area_limit": _int(0),
        "thing_area_limit": _int(0),
        "transformer_class_confidence_threshold": _float(0.7),
        "pixel_confidence_threshold": _float(0.4),
        "transformer_post_processing": _string("pixelwise"),
        "maskwise_postprocessing": _one("MaskwisePostProcessingOptions"),
        "center_score_threshold": _float(0.1),
        "nms_kernel": _int(3),
        "keep_k_centers": _int(400),
        "save_predictions": _bool(False),
        "override_save_dir": _string(),
        "num_vis_samples": _int(10),
        "save_raw_predictions": _bool(False),
        "raw_panoptic_format": _string("two_channel_png"),
        "convert_raw_to_eval_ids": _bool(True),
        "add_flipped_images": _bool(False),
        "eval_scales": _many("float"),
        "merge_semantic_and_instance_with_tf_op": _bool(True),
        "detailed_ap_metrics": _bool(False),
    },
    "MaskwisePostProcessingOptions": {
        "transformer_class_confidence_threshold_thing": _float(0.7),
        "transformer_class_confidence_threshold_stuff": _float(0.7),
        "overlapping_threshold": _float(0.5),
        "reorder_class_weight": _float(1.0),
        "reorder_mask_weight": _float(0.0),
    },
}
