"""
Defaults of every config key that this package adds.

All of them stand under ``DEEPLAB2`` nodes, and no key of Detectron2 is touched, so that the
defaults of another project in the same process stay what they were. What a model needs of
Detectron2's own keys (RGB input, mean and std of 127.5, ...) is said by the base YAML files.

Where a default is DeepLab2's, it is that of its ``*.proto`` files.
"""

from typing import List, Tuple

from detectron2.config import CfgNode

from ..records import all_records
from .backbone import add_backbone
from .vanished import refuse_vanished_keys


def add_deeplab2_config(cfg: CfgNode) -> None:
    """
    Add the defaults of this package to a Detectron2 config, in place.

    May be called before or after another project's ``add_*_config``, and more than once
    (values already set under our nodes are then replaced by the defaults).

    Args:
        cfg: a config from ``detectron2.config.get_cfg()``.
    """
    cfg.MODEL.DEEPLAB2 = CfgNode()
    # Load what fits of MODEL.WEIGHTS that do not fit the model, instead of refusing them.
    cfg.MODEL.DEEPLAB2.PARTIAL_WEIGHTS = False
    add_backbone(cfg.MODEL.DEEPLAB2)
    _add_norm(cfg.MODEL.DEEPLAB2)
    _add_semantic_head(cfg.MODEL.DEEPLAB2)
    _add_loss(cfg.MODEL.DEEPLAB2)
    _add_postprocessing(cfg.MODEL.DEEPLAB2)
    _add_input(cfg)
    _add_solver(cfg)
    _add_test(cfg)
    refuse_vanished_keys(cfg)
    for _, record in all_records():
        if record.add_config is not None:
            record.add_config(cfg)


def _add_norm(node: CfgNode) -> None:
    node.NORM = CfgNode()
    # "SyncBN" (plain batch norm where there is no process group), "BN" or "FrozenBN".
    node.NORM.NAME = "SyncBN"
    # Added to the variance. TensorFlow's default; PyTorch's 1e-5 shifts the logits.
    node.NORM.EPSILON = 1e-3
    # PyTorch's convention: weight of the new batch in the moving statistics (Keras's 1 - 0.99).
    node.NORM.MOMENTUM = 0.01


def decoder_node(channels: int, low_level_channels: List[int]) -> CfgNode:
    """The keys of a decoder; see :class:`deeplab2_d2.heads.DecoderSpec`."""
    node = CfgNode()
    # Feature that the ASPP reads.
    node.FEATURE = "res5"
    # Channels after every fusion with a low-level feature.
    node.CHANNELS = channels
    # "depthwise_separable_conv" or "standard_conv".
    node.CONV_TYPE = "depthwise_separable_conv"
    # Channels of every ASPP branch and of its output.
    node.ASPP_CHANNELS = 256
    # Atrous rates of the three 3x3 branches, in pixels of FEATURE's map. [] = by its stride, so
    # that they reach 96, 192 and 288 pixels of the input: [3, 6, 9] at stride 32.
    node.ATROUS_RATES = []
    # Replace the ASPP by one 1x1 convolution (as for the axial backbones).
    node.ASPP_ONLY_1X1 = False
    # Pooling branch: "tiled" averages over a sliding window as large as the map of a training
    # crop (INPUT.CROP.SIZE), as DeepLab2; "global" over the whole map.
    node.ASPP_POOLING = "tiled"
    # Features fused in, from the lowest to the highest resolution.
    node.LOW_LEVEL_FEATURES = ["res3", "res2"]
    # Channels that each of them is projected to.
    node.LOW_LEVEL_CHANNELS = low_level_channels
    return node


def head_node(channels: int) -> CfgNode:
    """The keys of a prediction head; see :class:`deeplab2_d2.heads.HeadSpec`."""
    node = CfgNode()
    # Channels of the 5x5 convolution before the last 1x1.
    node.CHANNELS = channels
    # "depthwise_separable_conv" or "standard_conv".
    node.CONV_TYPE = "depthwise_separable_conv"
    return node


def _add_semantic_head(node: CfgNode) -> None:
    # Meaning of the semantic channels, SEM_SEG_HEAD.NUM_CLASSES in number: "identity" (channel i is
    # the dataset's contiguous class i), or "deeplab2_coco" (134: void, then COCO's 133 classes).
    node.CLASS_MAP = "identity"
    node.SEMANTIC_DECODER = decoder_node(256, [64, 32])
    node.SEMANTIC_HEAD = head_node(256)


def _add_loss(node: CfgNode) -> None:
    node.LOSS = CfgNode()
    # Factor on the cross-entropy, and the part of an image's pixels (the hardest) it keeps: (0, 1].
    node.LOSS.SEMANTIC_WEIGHT = 1.0
    node.LOSS.SEMANTIC_TOP_K = 0.2


def _add_postprocessing(node: CfgNode) -> None:
    node.POSTPROCESSING = CfgNode()
    # Stuff segments of fewer pixels become void. 0 = off.
    node.POSTPROCESSING.STUFF_AREA_LIMIT = 2048
    # What evaluation returns per image, as far as the model has it: each costs time and memory.
    node.POSTPROCESSING.SEMANTIC_OUTPUT = True
    node.POSTPROCESSING.PANOPTIC_OUTPUT = True
    node.POSTPROCESSING.INSTANCE_OUTPUT = True


def outputs_from_config(cfg: CfgNode) -> Tuple[str, ...]:
    """The keys of Detectron2's output dict that MODEL.DEEPLAB2.POSTPROCESSING asks for."""
    node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
    wanted = {
        "sem_seg": node.SEMANTIC_OUTPUT,
        "panoptic_seg": node.PANOPTIC_OUTPUT,
        "instances": node.INSTANCE_OUTPUT,
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def _add_input(cfg: CfgNode) -> None:
    node = cfg.INPUT.DEEPLAB2 = CfgNode()
    # Before the random scale: resize so that the shorter side has at least MIN pixels and the
    # longer at most MAX, as DeepLab2's resize_to_range; 0 = off.
    node.MIN_SIZE_TRAIN = 0
    node.MAX_SIZE_TRAIN = 0
    # Random scale: one of MIN, MIN + STEP, ..., MAX; STEP 0 draws from the whole range.
    node.MIN_SCALE = 0.5
    node.MAX_SCALE = 2.0
    node.SCALE_STEP = 0.1
    # Weight of the semantic loss on things of fewer pixels (of the crop) than SMALL_INSTANCE_AREA.
    node.SMALL_INSTANCE_AREA = 4096
    node.SMALL_INSTANCE_WEIGHT = 3.0
    # Give crowd pixels the ignore label for the semantic loss too, as DeepLab2's data have it.
    node.IGNORE_CROWD_IN_SEMANTIC = True
    # Colour augmentation: "" (none) or the name of a policy, and its strength (0.2 and 1.0 are
    # used).
    node.AUTOAUGMENT = ""
    node.AUTOAUGMENT_MAGNITUDE = 1.0
    # Panoptic copy-paste. SCALE is a factor on both ends of the pasted image's random scale, 0 =
    # off; the others say which classes are pasted: "random", "all" or "none".
    node.COPY_PASTE = CfgNode()
    node.COPY_PASTE.SCALE = 0.0
    node.COPY_PASTE.THING = "random"
    node.COPY_PASTE.STUFF = "random"
    node.COPY_PASTE.VOID = "none"


def _add_solver(cfg: CfgNode) -> None:
    node = cfg.SOLVER.DEEPLAB2 = CfgNode()
    # "adam", "adamw", "sgd" (momentum SOLVER.MOMENTUM), or "radam_lookahead" as in MaX-DeepLab's
    # paper.
    node.OPTIMIZER = "adam"
    # After a linear warm-up of SOLVER.WARMUP_ITERS: "poly" or "cosine", down to END_LR.
    node.SCHEDULE = "poly"
    node.POLY_POWER = 0.9
    node.END_LR = 0.0
    # Keras's default; PyTorch's is 1e-8.
    node.ADAM_EPSILON = 1e-7
    # Decoupled decay of convolution kernels ("adamw").
    node.ADAMW_WEIGHT_DECAY = 0.0
    # Scale all gradients so that their global norm is at most this; 0 = off.
    node.CLIP_GLOBAL_NORM = 0.0
    # Factor on the learning rate of pretrained parts; memory, transformer and extra blocks keep 1.
    node.BACKBONE_MULTIPLIER = 1.0
    # Batch size that BASE_LR is meant for: the rate is multiplied by IMS_PER_BATCH *
    # ACCUMULATION_STEPS / REFERENCE_BATCH, and printed. 0 = take BASE_LR as it is.
    node.REFERENCE_BATCH = 0
    # Batches of IMS_PER_BATCH images whose gradients are averaged for one optimizer step.
    node.ACCUMULATION_STEPS = 1
    # Type of SOLVER.AMP's autocast: "bfloat16", or "float16" with a gradient scaler.
    node.AMP_DTYPE = "bfloat16"
    # Decay of a running average of the weights, kept beside them and evaluated; 0 = off.
    node.EMA_DECAY = 0.0
    # Let convolutions work on (N, H, W, C) memory.
    node.CHANNELS_LAST = False
    # Iterations between two lines of the log, and two entries of metrics.json and TensorBoard.
    node.LOG_PERIOD = 20
    # Compile the network (not the losses) with torch.compile.
    node.COMPILE = False


def _add_test(cfg: CfgNode) -> None:
    node = cfg.TEST.DEEPLAB2 = CfgNode()
    # Pad the network's input to this (height, width) with the mean pixel, as DeepLab2 pads to its
    # evaluation crop; [0, 0]: to the next 1 + multiple of the output stride.
    node.PAD_TO = [0, 0]
    # Match panoptic predictions as they come, with our operators: the same PQ, but neither PNGs nor
    # predictions.json are written. False: panopticapi, after the last image.
    node.PQ_ON_THE_FLY = False
    # Evaluate with this output stride, denser than BACKBONE.OUTPUT_STRIDE: the last stages and the
    # ASPP become atrous at the same weights. 0 = as trained.
    node.OUTPUT_STRIDE = 0
    # With TEST.AUG.ENABLED: factors on the image's size, one view each; [] = by TEST.AUG.MIN_SIZES.
    node.SCALES = []
