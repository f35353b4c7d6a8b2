"""The layers: each holds its parameters, calls one operator and records that operator's gradients.

Shapes are those of the operators: (n, c, *size), or (n, *size, c) with a channels-last ``layout``. Constructor
arguments are those of the operators and of torch.nn; ``rng`` (an int or a ``numpy.random.Generator``) fixes the
first weights, ``dtype`` is float32 or float64.
"""

from .activation import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from .conv import Conv1d, Conv2d, Conv3d
from .linear import Dropout, Flatten, Linear
from .norm import BatchNorm
from .pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    SumPool1d,
    SumPool2d,
    SumPool3d,
)

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
    "Tanh",
]
