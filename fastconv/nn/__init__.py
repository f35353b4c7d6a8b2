"""Layers, losses, optimizers and training on top of fastconv's operators.

>>> from fastconv import nn
>>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
>>> print(net.summary((1, 8, 8)))
>>> history = nn.fit(net, x, t, optimizer=nn.Adam(lr=1e-3), epochs=10)

Call a layer or network for its result; in training mode the call is recorded, and ``backward`` takes the gradient of
the result, adds those of the parameters to their ``grad`` and returns that of the input. Networks start in training
mode; ``eval()`` and ``train()`` switch. A network with branches is a ``Module`` whose ``forward`` is ordinary Python.
"""

from .containers import Sequential
from .functions import add, concatenate
from .layers import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    BatchNorm,
    Conv1d,
    Conv2d,
    Conv3d,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    ReLU,
    Sigmoid,
    Softmax,
    SumPool1d,
    SumPool2d,
    SumPool3d,
    Tanh,
)
from .losses import cross_entropy, mse
from .module import Module
from .optim import SGD, Adam, AdamW, Optimizer, RMSprop, cosine, weight_decay_groups
from .parameter import Parameter
from .tape import constant, record
from .training import History, evaluate, fit, predict

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Flatten",
    "History",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "Optimizer",
    "Parameter",
    "RMSprop",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
    "Tanh",
    "add",
    "concatenate",
    "constant",
    "cosine",
    "cross_entropy",
    "evaluate",
    "fit",
    "mse",
    "predict",
    "record",
    "weight_decay_groups",
]
