"""
Defaults of every config key that this package adds.

All of them stand under ``DEEPLAB2`` nodes, and no key of Detectron2 is touched, so that the
defaults of another project in the same process stay what they were. What a model needs of
Detectron2's own keys (RGB input, mean and std of 127.5, ...) is said by the base YAML files.

Where a default is DeepLab2's, it is that of its ``*.proto`` files.
"""

from typing import Any, List, Tuple

from detectron2.config import CfgNode

from ..records import all_records, config_parts
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
    _add_norm(cfg.MODEL.DEEPLAB2)
    _add_semantic_head(cfg.MODEL.DEEPLAB2)
    _add_loss(cfg.MODEL.DEEPLAB2)
    _add_postprocessing(cfg.MODEL.DEEPLAB2)
    _add_crf(cfg.MODEL.DEEPLAB2)
    _add_input(cfg)
    _add_solver(cfg)
    _add_test(cfg)
    for part in config_parts():
        part.add_config(cfg)
    for _, record in all_records():
        if record.add_config is not None:
            record.add_config(cfg)
    refuse_vanished_keys(cfg)


def _add_norm(node: CfgNode) -> None:
    node.NORM = CfgNode()
    # "SyncBN" (plain batch norm where there is no process group), "BN", "FrozenBN"; in networks
    # without attention and memory also "GN" (32 groups) and "LN" (over a pixel's channels).
    node.NORM.NAME = "SyncBN"
    # Added to the variance. TensorFlow's default; PyTorch's 1e-5 shifts the logits.
    node.NORM.EPSILON = 1e-3
    # PyTorch's convention: weight of the new batch in the moving statistics (Keras's 1 - 0.99).
    node.NORM.MOMENTUM = 0.01


def decoder_node(channels: int, low_level: List[Any]) -> CfgNode:
    """The keys of a decoder and its heads; see :class:`deeplab2_d2.heads.DecoderSpec`."""
    node = CfgNode()
    # Feature that the ASPP reads.
    node.FEATURE = "res5"
    # Features fused in, from the lowest to the highest resolution, and the channels that each is
    # projected to.
    node.LOW_LEVEL = low_level
    # Channels after every fusion.
    node.CHANNELS = channels
    # Kernel size and number of the convolutions of a fusion; DeepLab v3+'s are [3, 2], and its own
    # models have those whatever is here.
    node.FUSION = [5, 1]
    # Of the fusions and of the heads' first convolution: "depthwise_separable_conv" or
    # "standard_conv".
    node.CONV_TYPE = "depthwise_separable_conv"
    # Pooling branch of the ASPP: "tiled" averages over a sliding window as large as the map of a
    # training crop (INPUT.CROP.SIZE), as DeepLab2; "global" over the whole map, "global_plain" the
    # same without a norm (bowenc0221's Panoptic-DeepLab). "1x1": one 1x1 convolution in place of
    # the ASPP (as for the axial backbones).
    node.ASPP = "tiled"
    # Channels of every ASPP branch and of its output.
    node.ASPP_CHANNELS = 256
    # Of its three atrous branches, as CONV_TYPE.
    node.ASPP_CONV_TYPE = "standard_conv"
    # Probability of the dropout at its end, in training: 0.5 in bowenc0221's Panoptic-DeepLab.
    node.ASPP_DROPOUT = 0.1
    # Atrous rates of the three 3x3 branches, in pixels of FEATURE's map. [] = by its stride, so
    # that they reach 96, 192 and 288 pixels of the input: [3, 6, 9] at stride 32.
    node.ATROUS_RATES = []
    return node


def head_node(channels: int) -> CfgNode:
    """The key of a prediction head; see :class:`deeplab2_d2.heads.HeadSpec`."""
    node = CfgNode()
    # Channels of the 5x5 convolution before the last 1x1.
    node.CHANNELS = channels
    return node


def _add_semantic_head(node: CfgNode) -> None:
    # Meaning of the semantic channels, SEM_SEG_HEAD.NUM_CLASSES in number: "identity" (channel i is
    # the dataset's contiguous class i), "deeplab2_coco" (134: void, then COCO's 133 classes) or
    # "deeplab2_ade20k" (151: void, then the 150 classes).
    node.CLASS_MAP = "identity"
    node.SEMANTIC_DECODER = decoder_node(256, [["res3", 64], ["res2", 32]])
    node.SEMANTIC_HEAD = head_node(256)


def _add_loss(node: CfgNode) -> None:
    node.LOSS = CfgNode()
    # Factor on the cross-entropy, and the part of an image's pixels (the hardest) it keeps: (0, 1].
    node.LOSS.SEMANTIC = [1.0, 0.2]


def _add_postprocessing(node: CfgNode) -> None:
    node.POSTPROCESSING = CfgNode()
    # Stuff segments of fewer pixels become void. 0 = off.
    node.POSTPROCESSING.STUFF_AREA_LIMIT = 2048
    # What evaluation returns per image, as far as the model has it: each costs time and memory.
    node.POSTPROCESSING.SEMANTIC_OUTPUT = True
    node.POSTPROCESSING.PANOPTIC_OUTPUT = True
    node.POSTPROCESSING.INSTANCE_OUTPUT = True


def _add_crf(node: CfgNode) -> None:
    node.CRF = CfgNode()
    # Refine `sem_seg` in evaluation by a fully connected CRF on the image, as DeepLab v1 and v2 do;
    # panoptic outputs stay as they are.
    node.CRF.ENABLED = False
    # Of mean field.
    node.CRF.NUM_ITERATIONS = 10
    # Bilateral kernel: weight, and standard deviations in pixels and in grey levels. The papers
    # search them for each network (W1 3 to 6, 30 to 100 pixels, 3 to 6 grey levels).
    node.CRF.W1 = 4.0
    node.CRF.THETA_ALPHA = 49.0
    node.CRF.THETA_BETA = 5.0
    # Gaussian kernel: weight, and standard deviation in pixels.
    node.CRF.W2 = 3.0
    node.CRF.THETA_GAMMA = 3.0
    # Of each kernel's matrix: "after" filtering, by sums of rows, as DeepLab's library;
    # "symmetric", by their roots on both sides, as pydensecrf.
    node.CRF.NORMALIZATION = "after"


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
    # longer at most MAX, (min, max), as DeepLab2's resize_to_range; 0 = off.
    node.RESIZE_RANGE = [0, 0]
    # Random scale (min, max, step): one of min, min + step, ..., max; a step of 0 draws from the
    # whole range.
    node.SCALES = [0.5, 2.0, 0.1]
    # Weight of the semantic loss on things of fewer pixels (of the crop) than SMALL_INSTANCE_AREA.
    node.SMALL_INSTANCE_AREA = 4096
    node.SMALL_INSTANCE_WEIGHT = 3.0
    # Colour augmentation: [] (none), or the name of a policy and its strength (0.2 and 1.0 are
    # used).
    node.AUTOAUGMENT = []
    # Panoptic copy-paste. SCALE is a factor on both ends of the pasted image's random scale, 0 =
    # off; PASTED says which things, which stuff and whether void are pasted: "random", "all" or
    # "none" each.
    node.COPY_PASTE = CfgNode()
    node.COPY_PASTE.SCALE = 0.0
    node.COPY_PASTE.PASTED = ["random", "random", "none"]


def _add_solver(cfg: CfgNode) -> None:
    node = cfg.SOLVER.DEEPLAB2 = CfgNode()
    # "adam", "adamw" (SOLVER.WEIGHT_DECAY is decoupled), "sgd" (momentum SOLVER.MOMENTUM), or
    # "radam_lookahead" (RAdam with Lookahead).
    node.OPTIMIZER = "adam"
    # After a linear warm-up of SOLVER.WARMUP_ITERS: "poly" or "cosine", down to END_LR; or "step",
    # by SOLVER.GAMMA at each of SOLVER.STEPS, whose warm-up begins at SOLVER.WARMUP_FACTOR.
    node.SCHEDULE = "poly"
    node.POLY_POWER = 0.9
    node.END_LR = 0.0
    # Factor on the learning rate of pretrained parts; memory, transformer and extra blocks keep 1.
    node.BACKBONE_MULTIPLIER = 1.0
    # The same of the last layers of DeepLab v1 to v3+ (10 in the papers of v1 and v2); biases have
    # SOLVER.BIAS_LR_FACTOR, too.
    node.CLASSIFIER_MULTIPLIER = 1.0
    # Whether depthwise kernels decay as others do; not in Google's release of v3+.
    node.DEPTHWISE_DECAY = True
    # Batch size that BASE_LR is meant for: the rate is multiplied by IMS_PER_BATCH *
    # ACCUMULATION_STEPS / REFERENCE_BATCH, and printed. 0 = take BASE_LR as it is.
    node.REFERENCE_BATCH = 0
    # Batches of IMS_PER_BATCH images whose gradients are averaged for one optimizer step.
    node.ACCUMULATION_STEPS = 1
    # Type of SOLVER.AMP's autocast: "bfloat16", or "float16" with a gradient scaler.
    node.AMP_DTYPE = "bfloat16"
    # Decay of a running average of the weights, kept beside them and evaluated; 0 = off.
    node.EMA_DECAY = 0.0
    # Keep the checkpoint of the best evaluation as model_best.pth: by this metric, such as
    # "panoptic_seg/PQ" or "sem_seg/mIoU" (of several DATASETS.TEST, the dataset's name and "/"
    # before it); a "-" before all: less is better. "" = none is kept.
    node.BEST_METRIC = ""
    # End the training after so many evaluations that were no better than the best; 0 = never.
    node.PATIENCE = 0
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
    # Track what a model of single images predicts of videos, to score it as a model of videos:
    # "overlap" by the IoU of masks (the baseline of STEP), "flow" with their masks moved by
    # OpenCV's optical flow first; "none".
    node.TRACKER = "none"
    # On a GPU, replay inference as a CUDA graph, one for each size that comes again, with the
    # post-processing of single images in it.
    node.CUDA_GRAPH = False
    # With TEST.AUG.ENABLED: factors on the image's size, one view each; [] = by TEST.AUG.MIN_SIZES.
    node.SCALES = []
