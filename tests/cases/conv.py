"""Convolutions and transposed convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class Conv:
    """x (n, ic, *size), w (oc, ic / groups, *kernel); the rest as in ``conv2d``."""

    name: str
    n: int
    ic: int
    oc: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    groups: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.ic, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.oc, self.ic // self.groups, *self.kernel)

    @property
    def transposed_w_shape(self) -> tuple[int, ...]:
        return (self.ic, self.oc // self.groups, *self.kernel)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"groups": self.groups, **dict(self.options)}


def conv(name: str, n: int, ic: int, oc: int, size: Any, kernel: Any, groups: int = 1, **options: Any) -> Conv:
    size = (size,) if isinstance(size, int) else tuple(size)
    kernel = (kernel,) * len(size) if isinstance(kernel, int) else tuple(kernel)
    assert prod(size) < 2000, "keep the tests quick"
    return Conv(name, n, ic, oc, size, kernel, groups, tuple(options.items()))


#: Around the widths of vectors and tiles, and the numbers of channels that real networks have.
CHANNELS = (1, 3, 5, 6, 7, 8, 15, 16, 17, 31, 33)

CONVS = [
    # Kernels
    *[conv(f"kernel {k}x{k}", 2, 3, 5, (9, 11), k) for k in range(1, 8)],
    *[conv(f"kernel {k}x{k} same", 1, 4, 6, (8, 13), k, padding="same") for k in range(1, 8)],
    conv("kernel 1x7", 1, 3, 4, (6, 15), (1, 7), padding=((0, 0), (3, 3))),
    conv("kernel 7x1", 1, 3, 4, (15, 6), (7, 1), padding=(3, 0)),
    conv("kernel of the size of the input", 2, 5, 7, (6, 5), (6, 5)),
    conv("kernel 11x11 stride 4", 1, 3, 8, (31, 35), 11, stride=4, padding=2),
    conv("one pixel", 3, 4, 5, (1, 1), 1),
    conv("one pixel 3x3", 1, 4, 5, (1, 1), 3, padding=1),
    conv("one row", 1, 3, 9, (1, 37), (1, 3)),
    conv("one column", 1, 3, 9, (37, 1), (3, 1), padding=(1, 0)),
    # Channels
    *[conv(f"{c} channels in", 1, c, 4, (5, 7), 3, padding=1) for c in CHANNELS],
    *[conv(f"{c} channels out", 1, 3, c, (5, 7), 3, padding=1) for c in CHANNELS],
    *[conv(f"{c} channels 1x1", 2, c, c + 1, (3, 5), 1) for c in CHANNELS],
    *[conv(f"{c} channels 3x3", 1, c, c + 1, (6, 10), 3, padding="same") for c in CHANNELS],
    # Strides
    conv("stride 2", 2, 3, 5, (10, 13), 3, stride=2, padding=1),
    conv("stride 3,2", 1, 3, 5, (11, 12), (3, 4), stride=(3, 2), padding=(1, 2)),
    conv("stride over kernel", 1, 3, 5, (11, 14), 2, stride=(3, 5)),
    conv("stride over kernel 1x1", 2, 17, 9, (7, 9), 1, stride=2),
    conv("stride over input", 1, 2, 3, (4, 5), 3, stride=9),
    conv("stride 2 same", 1, 4, 8, (10, 9), 3, stride=2, padding="same"),
    conv("stride 2 same_lower", 1, 4, 8, (10, 9), 3, stride=2, padding="same_lower"),
    conv("stride 2 7x7", 1, 3, 16, (21, 23), 7, stride=2, padding=3),
    # Pads
    conv("pad over kernel", 1, 3, 4, (5, 6), 3, padding=5),
    conv("pad over kernel stride 3", 2, 3, 4, (4, 5), 2, stride=3, padding=(4, 3)),
    conv("pad equal to kernel", 1, 2, 3, (6, 6), 3, padding=3),
    conv("asymmetric pads", 2, 3, 5, (7, 8), 3, padding=((0, 2), (3, 1))),
    conv("asymmetric pads stride 2", 1, 9, 5, (7, 8), 4, stride=2, padding=((1, 4), (0, 2))),
    conv("negative pads", 1, 3, 5, (9, 10), 3, padding=((-1, -2), (-3, 0))),
    conv("negative and positive pads", 1, 3, 5, (9, 10), 3, padding=((-2, 3), (4, -1)), stride=(1, 2)),
    conv("cropped away on one side", 1, 2, 3, (4, 5), 2, padding=((-5, 6), (6, -5))),
    conv("same_lower even kernel", 1, 3, 5, (8, 9), 4, padding="same_lower"),
    # Dilation
    conv("dilation 2", 1, 3, 5, (11, 12), 3, dilation=2, padding=2),
    conv("dilation 3,1", 2, 3, 5, (13, 9), 3, dilation=(3, 1), padding="same"),
    conv("dilation 2 stride 2", 1, 5, 4, (13, 14), 3, dilation=2, stride=2, padding=(2, 3)),
    conv("dilation 3 stride 2", 1, 9, 8, (15, 16), 3, dilation=3, stride=2, padding=(1, 4)),
    conv("dilation over input", 1, 2, 3, (5, 6), 2, dilation=4, padding=2),
    conv("dilation 2 even kernel", 1, 4, 8, (12, 17), (2, 4), dilation=2, padding=1),
    # Groups
    conv("2 groups", 2, 6, 8, (7, 9), 3, 2, padding=1),
    conv("3 groups 1x1", 1, 9, 12, (5, 6), 1, 3),
    conv("4 groups of 1 in 3 out", 1, 4, 12, (6, 7), 3, 4, padding=1),
    conv("2 groups of 17", 1, 34, 34, (5, 8), 3, 2, padding=1),
    conv("8 groups stride 2", 1, 32, 16, (9, 9), 3, 8, stride=2, padding=1),
    *[conv(f"depthwise {c}", 1, c, c, (7, 10), 3, c, padding=1) for c in CHANNELS],
    conv("depthwise multiplier 2", 2, 9, 18, (6, 7), 3, 9, padding=1),
    conv("depthwise multiplier 3 stride 2", 1, 5, 15, (9, 8), 5, 5, padding=2, stride=2),
    conv("depthwise 5x5", 1, 17, 17, (9, 12), 5, 17, padding=2),
    conv("depthwise 7x7", 1, 8, 8, (14, 15), 7, 8, padding=3),
    conv("depthwise stride 2", 1, 33, 33, (11, 12), 3, 33, padding=1, stride=2),
    conv("depthwise dilation 2", 1, 6, 6, (12, 11), 3, 6, padding=2, dilation=2),
    conv("depthwise asymmetric", 1, 8, 8, (7, 9), 3, 8, padding=((2, 0), (0, 3))),
    conv("depthwise cropped", 1, 8, 8, (9, 9), 3, 8, padding=((-2, 0), (1, -3))),
    # Over the blocks of a kernel
    conv("wide", 1, 3, 8, (3, 131), 3, padding=1),
    conv("tall", 1, 3, 8, (131, 3), 3, padding=1),
    conv("many images", 19, 4, 5, (6, 7), 3, padding=1),
    conv("deep 3x3", 1, 70, 130, (9, 11), 3, padding=1),
    conv("deep 3x3x3", 2, 30, 26, (3, 7, 9), 3, padding=((2, 1), (1, 1), (0, 2))),
    conv("deep 3x3 stride 2", 2, 70, 66, (17, 23), 3, padding=1, stride=2),
    conv("deep 3x3 dilation 3", 2, 30, 26, (13, 17), 3, padding=(2, 4), dilation=3),
    conv("deep 1x7", 2, 33, 34, (5, 17), (1, 7), padding=(0, 3)),
    conv("deep 5x1", 2, 34, 33, (19, 5), (5, 1), padding=(2, 0)),
    conv("deep 7x7", 1, 17, 18, (9, 11), 7, padding=3),
    conv("1-D deep", 2, 64, 65, 61, 3, padding=1),
    conv("deep 1x1", 2, 260, 70, (5, 9), 1),
    conv("deep one pixel", 3, 300, 200, (1, 1), 1),
    conv("deep 5x5", 1, 48, 33, (7, 8), 5, padding=2),
    conv("deep stride 2", 1, 40, 72, (15, 14), 3, padding=1, stride=2),
    conv("14x14x96 to 64", 1, 96, 64, (14, 14), 3, padding=1),
    conv("25x26x32 to 48", 1, 32, 48, (25, 26), 3, padding=1),
    # Other ranks
    conv("1-D", 2, 3, 5, 23, 4),
    conv("1-D causal", 2, 7, 9, 19, 3, padding="causal", dilation=4),
    conv("1-D causal stride 2", 1, 3, 8, 20, 5, padding="causal", stride=2),
    conv("1-D same", 1, 16, 17, 31, 6, padding="same", stride=3),
    conv("1-D depthwise", 2, 12, 12, 33, 4, 12, padding=((3, 0),)),
    conv("1-D long", 1, 2, 3, 1200, 9, padding=4),
    conv("3-D", 2, 3, 5, (5, 6, 7), 3, padding=1),
    conv("3-D stride dilation", 1, 4, 6, (7, 8, 9), (2, 3, 2), stride=(2, 1, 2), dilation=(1, 2, 2), padding=(1, 2, 0)),
    conv("3-D asymmetric", 1, 3, 4, (4, 5, 6), 3, padding=((2, 0), (0, 1), (1, 3))),
    conv("3-D groups", 1, 8, 12, (4, 5, 6), (1, 3, 3), 4, padding="same"),
    conv("3-D 1x1x1", 1, 17, 9, (3, 4, 5), 1),
    conv("3-D depthwise", 1, 7, 7, (5, 4, 9), 3, 7, padding=1),
]

#: Here w is (ic, oc / groups, *kernel).
TRANSPOSED = [
    conv("1x1", 2, 5, 7, (4, 5), 1),
    conv("3x3", 1, 3, 8, (5, 6), 3),
    conv("3x3 stride 2", 1, 8, 3, (5, 6), 3, stride=2, padding=1),
    conv("3x3 stride 2 output_padding 1", 2, 4, 6, (5, 6), 3, stride=2, padding=1, output_padding=1),
    conv("4x4 stride 2", 1, 16, 9, (7, 6), 4, stride=2, padding=1),
    conv("2x2 stride 2", 1, 17, 8, (5, 9), 2, stride=2),
    conv("2x2 stride 3", 1, 6, 5, (4, 5), 2, stride=3, output_padding=(1, 2)),
    conv("dilation 2 output_padding 1", 1, 3, 4, (5, 6), 3, dilation=2, output_padding=1),
    conv("asymmetric pads", 1, 3, 4, (6, 7), 4, stride=2, padding=((0, 3), (2, 1))),
    conv("negative pads", 1, 3, 4, (4, 5), 3, stride=2, padding=((-1, 0), (0, -2))),
    conv("2 groups", 1, 6, 8, (5, 6), 3, 2, stride=2, padding=1),
    conv("depthwise", 1, 9, 9, (5, 6), 4, 9, stride=2, padding=1),
    conv("33 channels", 1, 33, 31, (6, 7), 3, padding=1),
    conv("1-D", 2, 3, 5, 11, 4, stride=3, padding=2, output_padding=1),
    conv("1-D groups", 1, 8, 12, 9, 5, 4, stride=2),
    conv("3-D", 1, 3, 4, (3, 4, 5), 3, stride=(2, 1, 2), padding=1, output_padding=(1, 0, 1)),
    conv("3-D groups", 1, 6, 4, (3, 3, 4), 2, 2, stride=2),
]
