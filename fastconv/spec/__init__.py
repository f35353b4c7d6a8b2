"""Problem descriptors: what is to be computed, in one explicit, hashable form.

Everything that a caller may write in several ways (an int or a tuple, ``"same"`` or pads, a kernel size
without a stride) is settled here, once, and every shape error is raised here, before any work starts.
From here on a spec is the only description of a problem: dispatch looks it up, backends compile it.

Sizes and tuples run over the spatial dimensions in the order d, h, w (the last ones for lower ranks).
"""

from .activation import ACTIVATIONS, SELU_ALPHA, SELU_SCALE, Activation, ActivationLike, activation_of
from .common import MAX_ELEMENTS, Ints, channels_last, check_elements, int_tuple
from .conv import ConvSpec, Padding, conv_out_size, conv_pads, conv_spec, conv_transpose_spec
from .copy import PAD_MODES, CopySpec, pads_of
from .gemm import GemmSpec
from .loss import LOSSES, LossSpec
from .map import MAPS, MapSpec
from .pool import PoolSpec, adaptive_pool_spec, divisor_of, pool_spec
from .reduce import REDUCTIONS, ReduceSpec, axes_of, axis_of, channel_axis, kept_shape
from .resize import RESIZE_MODES, ROUNDINGS, TRANSFORMATIONS, ResizeSpec, resize_spec, scales_of
from .types import DTYPES, INTEGERS, TYPES, Types
from .update import UPDATES, UpdateNumbers, UpdateSpec

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "INTEGERS",
    "LOSSES",
    "MAPS",
    "MAX_ELEMENTS",
    "PAD_MODES",
    "REDUCTIONS",
    "RESIZE_MODES",
    "ROUNDINGS",
    "SELU_ALPHA",
    "SELU_SCALE",
    "TRANSFORMATIONS",
    "TYPES",
    "UPDATES",
    "Activation",
    "ActivationLike",
    "ConvSpec",
    "CopySpec",
    "GemmSpec",
    "Ints",
    "LossSpec",
    "MapSpec",
    "Padding",
    "PoolSpec",
    "ReduceSpec",
    "ResizeSpec",
    "Types",
    "UpdateNumbers",
    "UpdateSpec",
    "activation_of",
    "adaptive_pool_spec",
    "axes_of",
    "axis_of",
    "channel_axis",
    "channels_last",
    "check_elements",
    "conv_out_size",
    "conv_pads",
    "conv_spec",
    "conv_transpose_spec",
    "divisor_of",
    "int_tuple",
    "kept_shape",
    "pads_of",
    "pool_spec",
    "resize_spec",
    "scales_of",
]
