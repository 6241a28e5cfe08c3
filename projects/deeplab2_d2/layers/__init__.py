"""Layers of the backbones and heads, and the general block that joins them."""

from .activation import ACTIVATIONS, Activation, hard_sigmoid
from .aspp import ASPP, ASPPPool
from .attention_2d import AxialAttention2d, GlobalAttention2d
from .attention_recording import (
    MemoryAttention,
    has_memory_attention,
    record_memory_attention,
)
from .attention_spec import AttentionSpec
from .axial_attention import AxialAttention
from .axis_parts import split_axis
from .block import BLOCK_KINDS, BlockSpec, GeneralBlock
from .caffe_pooling import build_max_pool
from .checkpointing import checkpointed
from .convnext_block import ConvNeXtBlock, convnext_norm, initialise_convnext_
from .convolution import (
    CONV_TYPES,
    ConvNormAct,
    DepthwiseConvNormAct,
    PaddedConv2d,
    SeparableConvNormAct,
    build_conv,
)
from .dense_prediction_cell import CellBranch, DensePredictionCell
from .drop_path import DropPath, GrowingDropPath, drop_path_keep_prob
from .dual_path_transformer import CrossAttention, DualPathSpec, DualPathTransformerLayer
from .fused_convolution import fast_layout
from .initialization import (
    depthwise_glorot_uniform_,
    he_normal_,
    lecun_normal_,
    truncated_normal_,
    zeros_,
)
from .moat_block import MoatBlock, MoatBlockSpec, attend_in_windows, moat_conv
from .norm import (
    BATCH_NORM_NAMES,
    NORM_NAMES,
    ChannelLayerNorm,
    Norm,
    SyncBatchNorm2d,
    TFBatchNorm2d,
    num_processes,
)
from .pixel_assignment import PixelAssignment
from .position_encoding import MAX_SPAN, AbsolutePositionEncoding, RelativePositionEncoding
from .resized_fuse import ResizedFuse
from .resizing import resize_align_corners
from .same_padding import SameConv2d, same_average_pool
from .sequence_convolution import SequenceConvNormAct
from .spatial_attention import SpatialAttention
from .squeeze_and_excite import SimplifiedSqueezeAndExcite, SqueezeAndExcite
from .stage import STAGE_KINDS, Stage, StageOptions, StageSpec, plan_blocks
from .stem import InceptionStem
from .switchable_atrous_convolution import GlobalContext, SwitchableAtrousConv2d
