"""Convolution, pooling and matrix products on NumPy arrays, forward and backward, with compiled kernels.

>>> import numpy as np, fastconv as fc
>>> y = fc.conv2d(x, w, b, stride=2, padding="same", activation="relu")
>>> dx = fc.conv2d_backward_input(dy, w, x.shape, stride=2, padding="same")
>>> print(fc.explain(fc.conv2d, x, w))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ._threads import (
    get_flush_denormals,
    get_num_threads,
    register_threadpoolctl,
    set_flush_denormals,
    set_num_threads,
    threads,
)
from ._version import __version__
from .arrays import empty
from .backends import backends, use_backend, use_isa
from .dispatch import explain
from .ops.activation import (
    activate,
    activate_backward,
)
from .ops.conv import (
    conv1d,
    conv1d_backward,
    conv1d_backward_input,
    conv1d_backward_weight,
    conv2d,
    conv2d_backward,
    conv2d_backward_input,
    conv2d_backward_weight,
    conv3d,
    conv3d_backward,
    conv3d_backward_input,
    conv3d_backward_weight,
    conv_backward_bias,
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from .ops.gemm import (
    gemm,
    gemm_backward,
    linear,
    linear_backward,
    matmul,
    matmul_backward,
)
from .ops.plan import (
    Plan,
    plan_conv1d,
    plan_conv2d,
    plan_conv3d,
)
from .ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool3d,
    adaptive_avg_pool3d_backward,
    adaptive_max_pool1d,
    adaptive_max_pool1d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    adaptive_max_pool3d,
    adaptive_max_pool3d_backward,
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
    global_avg_pool1d,
    global_avg_pool1d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_avg_pool3d,
    global_avg_pool3d_backward,
    global_max_pool1d,
    global_max_pool1d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
    global_max_pool3d,
    global_max_pool3d_backward,
    global_sum_pool1d,
    global_sum_pool1d_backward,
    global_sum_pool2d,
    global_sum_pool2d_backward,
    global_sum_pool3d,
    global_sum_pool3d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool3d,
    max_pool3d_backward,
    sum_pool1d,
    sum_pool1d_backward,
    sum_pool2d,
    sum_pool2d_backward,
    sum_pool3d,
    sum_pool3d_backward,
)
from .settings import precision, use_algorithm, workspace_limit
from .tuning import autotune, forget_autotuned

#: Imported on first use.
_LAZY = ("models", "nn", "testing")

__all__ = [
    "Plan",
    "__version__",
    "activate",
    "activate_backward",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "autotune",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "backends",
    "conv1d",
    "conv1d_backward",
    "conv1d_backward_input",
    "conv1d_backward_weight",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv3d",
    "conv3d_backward",
    "conv3d_backward_input",
    "conv3d_backward_weight",
    "conv_backward_bias",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "empty",
    "explain",
    "forget_autotuned",
    "gemm",
    "gemm_backward",
    "get_flush_denormals",
    "get_num_threads",
    "global_avg_pool1d",
    "global_avg_pool1d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_avg_pool3d",
    "global_avg_pool3d_backward",
    "global_max_pool1d",
    "global_max_pool1d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "global_max_pool3d",
    "global_max_pool3d_backward",
    "global_sum_pool1d",
    "global_sum_pool1d_backward",
    "global_sum_pool2d",
    "global_sum_pool2d_backward",
    "global_sum_pool3d",
    "global_sum_pool3d_backward",
    "linear",
    "linear_backward",
    "matmul",
    "matmul_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
    "models",
    "nn",
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
    "precision",
    "register_threadpoolctl",
    "set_flush_denormals",
    "set_num_threads",
    "sum_pool1d",
    "sum_pool1d_backward",
    "sum_pool2d",
    "sum_pool2d_backward",
    "sum_pool3d",
    "sum_pool3d_backward",
    "testing",
    "threads",
    "use_algorithm",
    "use_backend",
    "use_isa",
    "workspace_limit",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
