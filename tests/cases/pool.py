"""Pooling. An option that only one kind has is given to that kind alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv.spec import pool_spec

#: A backend that refuses this one has no pooling.
A_POOLING = pool_spec("max", "fwd", (1, 1, 4, 4), "float32", 2, 2, layout="NCHW")

ALL = ("max", "avg", "sum")
MAX, AVG = ("max",), ("avg",)
ADAPTIVE = ("adaptive_max", "adaptive_avg")
GLOBAL = ("global_max", "global_avg", "global_sum")


@dataclass(frozen=True)
class Pool:
    """x (n, c, *size) and the arguments after x of ``{kind}_pool{n}d`` for each kind in ``kinds``."""

    name: str
    n: int
    c: int
    size: tuple[int, ...]
    kinds: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return self.name

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, *self.size)

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.options)


def pool(name: str, n: int, c: int, size: tuple[int, ...], kinds: tuple[str, ...] = ALL, **options: Any) -> Pool:
    return Pool(name, n, c, size, kinds, tuple(options.items()))


POOLS = [
    *[pool(f"2x2 of {c} channels", 2, c, (6, 8), kernel_size=2) for c in (1, 3, 7, 8, 15, 16, 17, 33)],
    *[pool(f"3x3 of {c} channels", 1, c, (9, 12), kernel_size=3, stride=2, padding=1) for c in (3, 8, 17)],
    pool("3x3 stride 1", 1, 5, (7, 9), kernel_size=3, stride=1, padding=1),
    pool("2x3", 2, 3, (7, 10), kernel_size=(2, 3)),
    pool("stride over kernel", 1, 3, (11, 12), kernel_size=2, stride=(3, 5)),
    pool("leftover at the end", 1, 3, (8, 9), kernel_size=3),
    pool("ceil", 1, 3, (8, 9), kernel_size=3, stride=2, ceil_mode=True),
    pool("ceil pad", 2, 4, (7, 8), kernel_size=3, stride=2, padding=1, ceil_mode=True),
    pool("ceil last window dropped", 1, 3, (4, 5), kernel_size=2, stride=3, padding=1, ceil_mode=True),
    pool("5x5 stride 3 pad 2 ceil", 1, 9, (11, 13), kernel_size=5, stride=3, padding=2, ceil_mode=True),
    pool("5x5 over the image ceil", 2, 3, (2, 2), kernel_size=5, stride=2, padding=2, ceil_mode=True),
    pool("pads in pairs", 1, 3, (7, 8), kernel_size=4, stride=2, padding=((0, 2), (1, 0))),
    pool("same", 1, 3, (7, 8), kernel_size=3, stride=2, padding="same"),
    pool("same_lower", 1, 3, (8, 8), kernel_size=2, stride=1, padding="same_lower"),
    pool("one window", 2, 3, (4, 5), kernel_size=(4, 5)),
    pool("5x5 apart", 2, 9, (11, 15), kernel_size=5),
    pool("apart in parts", 1, 9, (68, 75), kernel_size=(3, 2)),
    pool("stride over kernel in parts", 1, 9, (67, 74), kernel_size=(3, 2), stride=(4, 3)),
    pool("1x1", 1, 3, (4, 5), kernel_size=1),
    pool("1x1 stride 2", 1, 8, (5, 7), kernel_size=1, stride=2),
    pool("wide", 1, 2, (3, 130), kernel_size=(2, 3), stride=1),
    pool("many planes", 7, 33, (5, 6), kernel_size=2),
    pool("9x9 stride 4", 1, 2, (30, 33), kernel_size=9, stride=4, padding=4),
    pool("9x9 stride 1", 1, 17, (13, 15), kernel_size=9, stride=1, padding=4),
    pool("9x9 of whole blocks", 1, 9, (10, 19), kernel_size=9, stride=1, padding=4),
    pool("8x16 stride 1", 2, 3, (12, 19), kernel_size=(8, 16), stride=1, padding=(3, 8)),
    pool("9x13 stride 1 in parts", 1, 2, (90, 220), kernel_size=(9, 13), stride=1, padding=(4, 6)),
    pool("12x12 stride 2", 1, 9, (24, 26), kernel_size=12, stride=(1, 2), padding=5, ceil_mode=True),
    *[pool(f"{c} channels in strips", 2, c, (7, 9), kernel_size=3, stride=2, padding=1) for c in (9, 64, 65)],
    *[pool(f"plane of 16x{w}", 1, 9, (16, w), kernel_size=3, stride=2, padding=1) for w in (16, 17)],
    pool("planes smaller than a vector", 2, 19, (2, 3), kernel_size=2, stride=1),
    pool("23x9 stride 1 of many channels", 1, 33, (24, 31), kernel_size=(23, 9), stride=1, padding=(11, 4)),
    pool("dilation 2", 1, 3, (9, 10), MAX, kernel_size=3, dilation=2),
    pool("dilation 2 of windows that adjoin", 1, 9, (6, 9), MAX, kernel_size=2, dilation=2, stride=3),
    pool("dilation 2 of 9x9", 1, 2, (60, 61), MAX, kernel_size=9, dilation=2, stride=1, padding=4),
    pool("dilation 3 pad ceil", 2, 5, (11, 12), MAX, kernel_size=2, dilation=3, padding=2, stride=2, ceil_mode=True),
    pool("dilation 1,2", 1, 8, (9, 10), MAX, kernel_size=3, dilation=(1, 2), padding=(1, 2), stride=1),
    pool("padding not counted", 1, 3, (7, 9), AVG, kernel_size=3, stride=2, padding=1, count_include_pad=False),
    pool(
        "padding not counted ceil",
        1,
        8,
        (8, 9),
        AVG,
        kernel_size=3,
        stride=2,
        padding=1,
        ceil_mode=True,
        count_include_pad=False,
    ),
    pool(
        "padding not counted 9x9",
        1,
        9,
        (20, 21),
        AVG,
        kernel_size=9,
        stride=1,
        padding=4,
        count_include_pad=False,
    ),
    pool("divisor 1", 1, 3, (6, 7), AVG, kernel_size=3, divisor_override=1),
    pool("divisor 4 ceil", 2, 3, (6, 7), AVG, kernel_size=2, padding=1, ceil_mode=True, divisor_override=4),
    pool("adaptive 7x9 to 3", 2, 5, (7, 9), ADAPTIVE, output_size=3),
    pool("adaptive 8x8 to 4", 2, 5, (8, 8), ADAPTIVE, output_size=4),
    pool("adaptive 5x6 to 1x6", 2, 5, (5, 6), ADAPTIVE, output_size=(1, 6)),
    pool("adaptive 4x5 to 7x3", 2, 5, (4, 5), ADAPTIVE, output_size=(7, 3)),
    pool("adaptive 6x11 to Nonex4", 2, 5, (6, 11), ADAPTIVE, output_size=(None, 4)),
    pool("adaptive 17 channels", 1, 17, (7, 7), ADAPTIVE, output_size=(2, 3)),
    pool("global", 2, 9, (7, 5), GLOBAL),
    pool("global many channels", 1, 37, (3, 3), GLOBAL),
    pool("global one pixel", 1, 3, (1, 1), GLOBAL),
    pool("1-D", 2, 3, (13,), kernel_size=3, stride=2, padding=1),
    pool("1-D ceil", 1, 8, (14,), kernel_size=4, stride=3, ceil_mode=True),
    pool("1-D dilation", 1, 3, (15,), MAX, kernel_size=3, dilation=3, padding=3),
    pool("1-D adaptive", 2, 3, (11,), ADAPTIVE, output_size=4),
    pool("1-D global", 2, 3, (11,), GLOBAL),
    pool("3-D", 1, 3, (5, 6, 7), kernel_size=2),
    pool("3-D pad", 2, 5, (5, 6, 7), kernel_size=3, stride=(2, 1, 2), padding=1),
    pool("3-D ceil", 1, 4, (4, 5, 6), kernel_size=(2, 3, 2), stride=(3, 2, 3), padding=(1, 0, 1), ceil_mode=True),
    pool("3-D 5x5x5 stride 1", 1, 9, (6, 7, 8), kernel_size=5, stride=1, padding=2),
    pool("3-D dilation", 1, 3, (7, 6, 5), MAX, kernel_size=2, dilation=(3, 2, 1), stride=1),
    pool("3-D adaptive", 1, 3, (5, 6, 7), ADAPTIVE, output_size=(2, 3, 7)),
    pool("3-D global", 2, 3, (3, 4, 5), GLOBAL),
]
