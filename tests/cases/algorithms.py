"""Convolutions that reach every algorithm of the C backend, with sizes just below, at and above what it cuts at.

A group's cases are all computed by the algorithms that ``ALGORITHMS`` has for its family. Register tiles have 4, 6 or
14 rows and 4, 8, 16 or 32 columns, depending on the instruction set and the dtype; blocks are 256, 320 or 512 deep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .conv import Conv, conv

WINOGRAD, WINOGRAD_5X5 = "winograd_4x4_3x3", "winograd_2x2_5x5"
DIRECT, DEPTHWISE, STRIPS, ALONG = "direct", "depthwise_channels", "depthwise_strips", "depthwise_rows"
ROWS, PIXELS, LINES = "implicit_gemm_rows", "implicit_gemm_pixels", "direct_lines"


class OfC(str):
    """An algorithm whose layers Numba computes by another."""


STRIDED = "winograd_4x4_3x3_stride2"


#: family -> result -> what computes it with the channels first, with the channels last.
ALGORITHMS = {
    "winograd": dict.fromkeys(("y", "dx", "dw"), (WINOGRAD, WINOGRAD)),
    "winograd 5x5": dict.fromkeys(("y", "dx", "dw"), (WINOGRAD_5X5, WINOGRAD_5X5)),
    "winograd by filters": {
        **dict.fromkeys(("y", "dx"), (f"{WINOGRAD}_filters", f"{WINOGRAD}_filters")),
        "dw": (WINOGRAD, WINOGRAD),
    },
    "winograd 5x5 by filters": {
        **dict.fromkeys(("y", "dx"), (f"{WINOGRAD_5X5}_filters", f"{WINOGRAD_5X5}_filters")),
        "dw": (WINOGRAD_5X5, WINOGRAD_5X5),
    },
    "winograd dilated": dict.fromkeys(("y", "dx", "dw"), (WINOGRAD,) * 2),
    "winograd 5x5 dilated": dict.fromkeys(("y", "dx", "dw"), (WINOGRAD_5X5,) * 2),
    "winograd 3-D": dict.fromkeys(("y", "dx", "dw"), (WINOGRAD,) * 2),
    "winograd 3-D by filters": {
        **dict.fromkeys(("y", "dx"), (f"{WINOGRAD}_filters",) * 2),
        "dw": (WINOGRAD,) * 2,
    },
    "winograd dilated by filters": {
        **dict.fromkeys(("y", "dx"), (f"{WINOGRAD}_filters",) * 2),
        "dw": (WINOGRAD,) * 2,
    },
    **{f"winograd line {n}": dict.fromkeys(("y", "dx", "dw"), (f"winograd_line_{n}",) * 2) for n in (6, 8, 10)},
    "winograd line rows 10": dict.fromkeys(("y", "dx", "dw"), (OfC("winograd_line_10"),) * 2),
    "winograd line, 9 taps, 10": {**dict.fromkeys(("y", "dx"), ("winograd_line_10",) * 2), "dw": (PIXELS, PIXELS)},
    "winograd stride 2": dict.fromkeys(("y", "dx", "dw"), (STRIDED,) * 2),
    "product": {"y": (PIXELS, ROWS), "dx": (PIXELS, ROWS), "dw": (PIXELS, PIXELS)},
    "1x1": {"y": (PIXELS, ROWS), "dx": (PIXELS, ROWS), "dw": (PIXELS, PIXELS)},
    "direct": {"y": (DIRECT, DIRECT), "dx": (DIRECT, DIRECT), "dw": (DIRECT, DIRECT)},
    "few channels": {"y": (DIRECT, DIRECT), "dx": (DIRECT, DIRECT), "dw": (PIXELS, PIXELS)},
    "stem": {"y": (LINES, LINES), "dx": (DIRECT, DIRECT), "dw": (LINES, LINES)},
    "groups": {"y": (PIXELS, LINES), "dx": (PIXELS, LINES), "dw": (PIXELS, LINES)},
    "groups of 8": {"y": (DIRECT, LINES), "dx": (DIRECT, LINES), "dw": (PIXELS, LINES)},
    "depthwise": dict.fromkeys(("y", "dx", "dw"), (STRIPS, DEPTHWISE)),
    "depthwise rows": {**dict.fromkeys(("y", "dx"), (ALONG, DEPTHWISE)), "dw": (STRIPS, DEPTHWISE)},
    "depthwise rows of steps": {"y": (ALONG, DEPTHWISE), **dict.fromkeys(("dx", "dw"), (STRIPS, DEPTHWISE))},
    "depthwise volumes": dict.fromkeys(("y", "dx", "dw"), (DIRECT, DEPTHWISE)),
}


@dataclass(frozen=True)
class Group:
    name: str
    family: str
    cases: tuple[Conv, ...]

    def __str__(self) -> str:
        return f"{self.family}, {self.name}"


def group(family: str, name: str, *cases: Conv) -> Group:
    return Group(name, family, cases)


#: Around whole vectors, tiles, panels, pieces and blocks.
BORDERS = tuple(b + d for b in (48, 64, 96, 112, 128, 144, 168, 192, 256, 320, 336, 384, 512) for d in (-1, 0, 1))

#: Around one to four vectors.
WIDTHS = tuple(b + d for b in (4, 8, 16, 24, 32, 48, 64) for d in (-1, 0, 1))

_wino = [
    group(
        "winograd",
        "tiles that are cut",
        *[
            conv(f"outputs {h}x{w}", 1, 24, 24, (h, w), 3, padding=1)
            for h, w in ((11, 15), (12, 16), (13, 17), (10, 18), (11, 16), (12, 13), (9, 14))
        ],
    ),
    group(
        "winograd",
        "few rows or columns of tiles",
        *[conv(f"{h}x{w}", 1, 25, 24, (h, w), 3, padding=1) for h, w in ((4, 48), (3, 47), (2, 46), (1, 45))],
        *[conv(f"{h}x{w}", 1, 24, 25, (h, w), 3, padding=1) for h, w in ((48, 4), (47, 3), (46, 2), (65, 1))],
        *[
            conv(f"{h}x{w}", 1, 24, 24, (h, w), 3, padding=1)
            for h, w in ((68, 4), (24, 12), (15, 20), (59, 28), (16, 36))
        ],
        conv("12 images of a tile", 12, 24, 24, (4, 4), 3, padding=1),
        conv("13 images of a part of one", 13, 24, 24, (2, 3), 3, padding=1),
    ),
    group(
        "winograd",
        "pads",
        conv("none", 1, 24, 24, (13, 17), 3),
        conv("none, cut", 1, 24, 24, (15, 20), 3),
        conv("2", 1, 24, 24, (12, 16), 3, padding=2),
        conv("2, cut", 1, 24, 24, (11, 15), 3, padding=2),
        conv("over the kernel", 1, 24, 24, (9, 17), 3, padding=5),
        conv("asymmetric", 1, 24, 24, (11, 15), 3, padding=((0, 2), (2, 1))),
        conv("asymmetric the other way", 1, 24, 24, (11, 15), 3, padding=((3, 1), (0, 4))),
        conv("negative", 1, 24, 24, (16, 18), 3, padding=((-1, 0), (2, -3))),
        conv("negative on both sides", 1, 24, 24, (17, 20), 3, padding=((-1, -2), (-2, -1))),
        conv("a slice of 3-D", 1, 24, 25, (1, 13, 14), (1, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1)),
    ),
    group(
        "winograd",
        "channels",
        *[
            conv(f"{i} to {o}", 1, i, o, (11, 15), 3, padding=1)
            for i, o in (
                (24, 31),
                (25, 32),
                (31, 33),
                (32, 24),
                (33, 40),
                (40, 47),
                (47, 48),
                (49, 25),
                (63, 65),
                (64, 64),
            )
        ],
        conv("319 to 24", 1, 319, 24, (11, 15), 3, padding=1),
        conv("321 to 24", 1, 321, 24, (11, 15), 3, padding=1),
        conv("24 to 257", 1, 24, 257, (11, 15), 3, padding=1),
        conv("2 groups of 65 to 66", 1, 130, 132, (11, 15), 3, 2, padding=1),
        conv("3 groups of 67 to 65", 2, 201, 195, (9, 10), 3, 3, padding=1),
    ),
    group(
        "winograd",
        "pieces",
        conv("across images", 3, 24, 26, (9, 9), 3, padding=1),
        conv("more than one", 5, 24, 24, (24, 23), 3, padding=1),
        conv("the least", 1, 385, 32, (20, 31), 3, padding=1),
    ),
    group(
        "winograd",
        "filters' gradients: blocks of channels, tiles at a time",
        *[
            conv(f"{i} to {o}", 1, i, o, (10, 14), 3, padding=1)
            for i, o in ((127, 25), (129, 24), (24, 127), (25, 131))
        ],
        *[conv(f"{n} images", n, 24, 25, (21, 22), 3, padding=1) for n in (6, 7, 8)],
    ),
    group(
        "winograd",
        "few channels and tiles",
        *[conv(f"{i} to {o}", 2, i, o, (5, 7), 3, padding=1) for i, o in ((12, 13), (13, 12), (15, 17), (17, 16))],
        conv("4 images of a tile", 4, 12, 12, (4, 4), 3, padding=1),
        conv("5 images of a part of one", 5, 13, 12, (2, 3), 3, padding=1),
    ),
    group(
        "winograd by filters",
        "rounds",
        conv("143 tiles", 13, 13, 17, (3, 43), 3, padding=1),
        conv("144 tiles", 36, 13, 17, (7, 8), 3, padding=1),
        conv("145 tiles", 29, 13, 17, (4, 19), 3, padding=1),
        conv("289 tiles", 1, 13, 12, (41, 44), 3, padding=((0, 29), (13, 13))),
        conv("across images", 37, 12, 13, (5, 6), 3, padding=1),
        conv("groups", 5, 48, 50, (24, 25), 3, 2, padding=((0, 2), (2, 1))),
    ),
    group(
        "winograd by filters",
        "channels",
        *[
            conv(f"{i} to {o}", 1, i, o, (5, 7), 3, padding=1)
            for i, o in ((12, 15), (15, 16), (16, 31), (17, 32), (31, 33), (33, 64), (63, 65), (511, 12), (513, 13))
        ],
    ),
    group(
        "winograd 5x5 by filters",
        "rounds and channels",
        *[
            conv(f"outputs {h}x{w}", 1, 13, 17, (h, w), 5, padding=2)
            for h, w in ((23, 23), (24, 24), (10, 58), (34, 33))
        ],
        *[conv(f"{i} to {o}", 1, i, o, (3, 4), 5, padding=2) for i, o in ((15, 33), (17, 31), (513, 12))],
    ),
    group(
        "winograd 5x5",
        "tiles that are cut",
        *[conv(f"outputs {h}x{w}", 1, 24, 24, (h, w), 5, padding=2) for h, w in ((7, 6), (6, 8), (5, 9), (1, 24))],
        conv("12 images of a tile", 12, 24, 24, (2, 2), 5, padding=2),
        conv("13 images of a part of one", 13, 24, 24, (1, 2), 5, padding=2),
    ),
    group(
        "winograd 5x5",
        "pads",
        conv("none", 1, 24, 24, (11, 13), 5),
        conv("1", 1, 24, 24, (9, 12), 5, padding=1),
        conv("over the kernel", 1, 24, 24, (7, 9), 5, padding=6),
        conv("asymmetric", 1, 24, 24, (9, 10), 5, padding=((0, 4), (3, 1))),
        conv("negative", 1, 24, 24, (13, 14), 5, padding=((-1, 0), (2, -3))),
        conv("a slice of 3-D", 1, 24, 25, (1, 9, 10), (1, 5, 5), stride=(2, 1, 1), padding=(0, 2, 2)),
    ),
    group(
        "winograd 5x5",
        "channels and pieces",
        *[conv(f"{i} to {o}", 1, i, o, (7, 9), 5, padding=2) for i, o in ((25, 32), (31, 33), (47, 48), (129, 130))],
        conv("2 groups of 65 to 66", 2, 130, 132, (7, 8), 5, 2, padding=2),
        conv("across images", 3, 24, 26, (15, 17), 5, padding=2),
    ),
    group(
        "winograd dilated",
        "remainders that are cut",
        *[
            conv(f"outputs {h}x{w}", 1, 24, 24, (h, w), 3, padding=d, dilation=d)
            for d, sizes in {
                2: ((15, 17), (16, 23), (7, 9)),
                (3, 2): ((11, 16), (12, 15), (14, 7)),
                (1, 4): ((9, 31), (4, 33)),
                (5, 1): ((19, 4), (41, 9)),
            }.items()
            for h, w in sizes
        ],
        *[conv(f"{d} over {s}", 2, 13, 17, s, 3, padding=d, dilation=d) for d, s in ((6, (5, 6)), ((7, 3), (6, 7)))],
        conv("a pixel each", 2, 12, 13, (4, 4), 3, padding=9, dilation=9),
    ),
    group(
        "winograd dilated",
        "pads",
        conv("none", 1, 24, 24, (13, 21), 3, dilation=(2, 3)),
        conv("over the kernel", 1, 24, 24, (9, 7), 3, dilation=3, padding=(11, 13)),
        conv("asymmetric", 1, 24, 24, (11, 15), 3, dilation=(2, 3), padding=((0, 4), (5, 1))),
        conv("negative", 1, 24, 24, (16, 18), 3, dilation=2, padding=((-1, 0), (2, -3))),
        conv("groups, pieces", 3, 50, 52, (26, 25), 3, 2, dilation=3, padding=3),
    ),
    group(
        "winograd dilated by filters",
        "rounds",
        conv("144 tiles", 1, 13, 17, (40, 40), 3, dilation=4, padding=4),
        conv("156 tiles", 1, 13, 17, (40, 49), 3, dilation=4, padding=4),
        conv("across images", 5, 15, 12, (11, 31), 3, 1, dilation=(2, 5), padding=((0, 4), (9, 3))),
    ),
    group(
        "winograd 5x5 dilated",
        "remainders that are cut",
        *[
            conv(f"outputs {h}x{w}", 2, 24, 25, (h, w), 5, dilation=3, padding=6)
            for h, w in ((13, 18), (7, 11), (2, 5))
        ],
    ),
    group(
        "winograd 3-D",
        "slices",
        conv("1x3x3", 2, 24, 25, (4, 9, 11), (1, 3, 3), padding=(0, 1, 1)),
        *[conv(f"{s} slices", 2, 24, 25, (s, 5, 7), 3, padding=1) for s in (1, 2, 3, 5)],
        *[conv(f"{k} taps", 1, 25, 24, (6, 9, 5), (k, 3, 3), padding=(k // 2, 1, 1)) for k in (2, 4, 5, 7)],
        conv("many tiles", 1, 16, 17, (7, 16, 17), 3, padding=1),
        conv("groups", 2, 50, 52, (4, 6, 9), (2, 3, 3), 2, padding=1),
    ),
    group(
        "winograd 3-D",
        "pads",
        conv("none", 2, 24, 24, (5, 6, 9), 3),
        conv("over the kernel", 1, 24, 24, (3, 6, 9), 3, padding=(4, 1, 1)),
        conv("asymmetric", 2, 24, 24, (4, 6, 9), 3, padding=((0, 2), (1, 1), (0, 3))),
        conv("cut away on one side", 2, 24, 24, (6, 6, 9), 3, padding=((-2, 1), (1, 1), (1, 1))),
        conv("all cut away", 1, 24, 24, (1, 13, 14), (1, 3, 3), padding=((1, -1), (1, 1), (1, 1))),
        conv("a tap that nothing sees", 2, 24, 24, (2, 9, 7), 3, padding=((2, 1), (1, 1), (1, 1)), dilation=(2, 1, 1)),
        conv("slices between taps", 1, 24, 24, (2, 9, 7), (2, 3, 3), padding=(5, 1, 1), dilation=(5, 1, 1)),
        conv("dilation", 1, 24, 24, (7, 9, 13), 3, padding=(3, 2, 1), dilation=(3, 2, 1)),
    ),
    group(
        "winograd 3-D",
        "blocks of the reduction",
        *[conv(f"{c} channels", 1, c, 13, (3, 4, 9), 3, padding=1) for c in (85, 107, 127, 129, 170, 171, 257, 321)],
        conv("513 channels", 1, 513, 12, (2, 4, 8), 3, padding=1),
    ),
    group(
        "winograd 3-D by filters",
        "rounds and channels",
        conv("144 tiles", 2, 13, 17, (6, 11, 15), 3, padding=1),
        conv("150 tiles", 1, 13, 17, (6, 19, 17), 3, padding=1),
        *[conv(f"{c} channels", 2, c, 33, (3, 4, 9), 3, padding=1) for c in (127, 129, 171, 257, 513)],
        conv("groups, pads", 1, 48, 50, (4, 9, 8), (4, 3, 3), 2, padding=((3, 0), (0, 2), (2, 1))),
    ),
]

#: Taps that as many points are for, and results of a tile then.
_LINES = {6: ((3, 4), (2, 5), (5, 2)), 8: ((3, 6), (5, 4), (7, 2)), 10: ((7, 4), (5, 6), (6, 5))}

_wino_line = [
    g
    for points, ((taps, step), *others) in _LINES.items()
    for g in (
        group(
            f"winograd line {points}",
            "tiles that are cut",
            *[conv(f"w {w}", 2, 33, 35, (3, w), (1, taps), padding=(0, taps // 2)) for w in range(11, 13 + step)],
            *[conv(f"h {h}", 2, 35, 33, (h, 5), (taps, 1), padding=(taps // 2, 0)) for h in range(11, 13 + step)],
            *[conv(f"d {d}", 2, 33, 33, (d, 3, 4), (taps, 1, 1), padding=(taps // 2, 0, 0)) for d in (11, 12)],
            conv("h of 3-D", 2, 33, 33, (2, 11, 4), (1, taps, 1), padding=(0, 1, 0)),
            conv("w of 3-D", 2, 33, 33, (2, 3, 12), (1, 1, taps), padding=(0, 0, 1)),
            conv("images of a part of a tile", 53, 33, 33, (1, 1), (1, taps), padding=(0, taps // 2)),
        ),
        group(
            f"winograd line {points}",
            "taps and pads",
            *[conv(f"{k} taps", 2, 33, 34, (2, 5 * m + 1), (1, k), padding=(0, k // 2)) for k, m in others],
            conv("1-D", 2, 33, 34, 61, taps, padding=1),
            conv("none", 2, 33, 34, (5, 29), (1, taps)),
            conv("over the kernel", 2, 34, 33, (17, 3), (taps, 1), padding=(taps + 2, 0)),
            conv("asymmetric", 2, 33, 33, (3, 23), (1, taps), padding=((0, 0), (2, 1))),
            conv("negative", 2, 33, 33, (3, 31), (1, taps), padding=((0, 0), (-3, -2))),
            conv("negative, h", 2, 33, 33, (31, 3), (taps, 1), padding=((3, -4), (0, 0))),
        ),
        group(
            f"winograd line {points}",
            "channels and pieces",
            *[
                conv(f"{i} to {o}", 2, i, o, (3, 17), (1, taps), padding=(0, 1))
                for i, o in (
                    (16, 15),
                    (17, 31),
                    (32, 24),
                    (47, 48),
                    (49, 63),
                    (65, 64),
                    (129, 16),
                    (319, 17),
                    (321, 33),
                )
            ],
            conv("2 groups of 33 to 35", 2, 66, 70, (7, 19), (taps, 1), 2, padding=(1, 0)),
            conv("across images", 7, 33, 33, (9, 11), (1, taps), padding=(0, 1)),
            conv("a long line", 2, 65, 66, 1501, taps, padding=1),
            conv("long columns", 2, 65, 66, (33, 59), (taps, 1), padding=(1, 0)),
        ),
    )
]

_wino_line += [
    group(
        "winograd line rows 10",
        "rectangles of tiles",
        *[conv(f"{h}x{w}", 1, 65, 66, (h, w), 7, padding=3) for h, w in ((9, 63), (10, 64), (11, 65), (23, 9))],
        conv("of images", 3, 18, 19, (7, 10), 7, padding=3),
        conv("of slices", 2, 18, 19, (3, 7, 10), (1, 7, 7), padding=(0, 3, 3)),
    ),
    group(
        "winograd line rows 10",
        "kernels, pads and channels",
        *[conv(f"{kernel}", 1, 19, 18, (11, 14), kernel, padding=1) for kernel in ((2, 7), (5, 6), (11, 7), (3, 5))],
        conv("none", 1, 18, 19, (11, 14), 7),
        conv("over the kernel", 1, 18, 19, (5, 6), 7, padding=8),
        conv("asymmetric", 1, 18, 19, (9, 11), 7, padding=((5, 2), (1, 4))),
        conv("negative", 1, 18, 19, (14, 15), 7, padding=((-2, 1), (-1, 3))),
        conv("dilation of rows", 1, 18, 19, (19, 15), (3, 7), padding=(4, 3), dilation=(4, 1)),
        conv("2 groups of 65 to 67", 1, 130, 134, (9, 10), 7, 2, padding=3),
    ),
    group(
        "winograd line, 9 taps, 10",
        "axes",
        conv("w", 2, 33, 34, (2, 11), (1, 9), padding=(0, 4)),
        conv("h", 1, 19, 18, (14, 3), (9, 1), padding=(1, 0)),
    ),
]


def _strided(name: str, n: int, ic: int, oc: int, size: int | tuple[int, ...], *groups: int, **options: Any) -> Conv:
    return conv(name, n, ic, oc, size, 3, *groups, **{"stride": 2, "padding": 1, **options})


_wino_strided = [
    group(
        "winograd stride 2",
        "tiles that are cut",
        *[_strided(f"outputs {h}", 1, 17, 16, (2 * h - h % 2, h * 5 % 18 + 1)) for h in range(1, 14)],
        *[_strided(f"outputs {w} wide", 1, 16, 17, (w * 5 % 18 + 1, 2 * w - w % 2)) for w in range(1, 14)],
        _strided("13 images of a tile", 13, 16, 16, (8, 7)),
        _strided("37 images of a part of one", 37, 16, 16, (2, 3)),
    ),
    group(
        "winograd stride 2",
        "pads",
        *[
            _strided(f"{pad}, {h}x{w}", 1, 16, 17, (h, w), padding=pad)
            for pad in (0, 2, 3, 5)
            for h, w in ((8, 17), (9, 16), (11, 15), (18, 6))
        ],
        _strided("asymmetric", 1, 16, 16, (11, 15), padding=((0, 2), (2, 1))),
        _strided("asymmetric the other way", 1, 16, 16, (12, 15), padding=((3, 1), (0, 4))),
        _strided("negative", 1, 16, 16, (16, 18), padding=((-1, 0), (2, -3))),
        _strided("negative on both sides", 1, 16, 16, (17, 20), padding=((-1, -2), (-2, -1))),
        conv("a slice of 3-D", 1, 16, 17, (1, 13, 14), (1, 3, 3), stride=(3, 2, 2), padding=(0, 1, 1)),
    ),
    group(
        "winograd stride 2",
        "channels",
        *[
            _strided(f"{i} to {o}", 1, i, o, (11, 16))
            for i, o in (
                (15, 33),
                (24, 31),
                (31, 24),
                (32, 49),
                (47, 48),
                (63, 65),
                (64, 64),
                (319, 16),
                (513, 15),
            )
        ],
        _strided("16 to 257", 1, 16, 257, (11, 15)),
        _strided("2 groups of 65 to 66", 1, 130, 132, (11, 15), 2),
        _strided("3 groups of 35 to 33", 2, 105, 99, (9, 10), 3),
    ),
    group(
        "winograd stride 2",
        "pieces",
        _strided("across images", 3, 24, 26, (19, 17)),
        _strided("more than one", 5, 24, 24, (42, 47)),
        _strided("the least", 1, 130, 64, (43, 45)),
        *[_strided(f"{n} images", n, 16, 17, (27, 26)) for n in (3, 4, 5)],
        *[_strided(f"{i} to {o}", 2, i, o, (10, 14)) for i, o in ((127, 25), (129, 24), (24, 127), (25, 131))],
    ),
]

_product = [
    group(
        "product",
        "below what pays for Winograd",
        conv("11 channels in", 1, 11, 24, (12, 16), 3, padding=1),
        conv("3 tiles", 3, 24, 24, (4, 4), 3, padding=1),
        conv("stride 1,2", 1, 24, 24, (16, 31), 3, stride=(1, 2), padding=1),
        conv("empty tiles", 1, 24, 24, (11, 7), 3, dilation=4, padding=4),
        conv("3x2, 15 channels out", 1, 24, 15, (16, 16), (3, 2), padding=1),
        conv("1x3, 15 channels out", 1, 24, 15, (16, 16), (1, 3), padding=(0, 1)),
        conv("1x3, 31 results", 1, 64, 64, (1, 31), (1, 3), padding=(0, 1)),
        conv("1x3, padding beside", 1, 64, 64, (16, 16), (1, 3), padding=1),
        conv("1x3, rows that move on", 1, 64, 64, (16, 16), (1, 3), padding=((1, -1), (1, 1))),
        conv("1x3, stride beside", 1, 64, 64, (16, 16), (1, 3), stride=(2, 1), padding=(0, 1)),
        conv("3x1x3", 1, 64, 64, (8, 3, 16), (3, 1, 3), padding=(1, 0, 1)),
        conv("3x1, dilation", 1, 64, 64, (16, 16), (3, 1), padding=(2, 0), dilation=(2, 1)),
        conv("1x11", 1, 64, 64, (3, 40), (1, 11), padding=(0, 5)),
        conv("two slices, stride 2", 1, 24, 24, (3, 13, 14), (1, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1)),
        conv("a slice in the padding", 1, 24, 24, (1, 13, 14), (1, 3, 3), stride=(3, 1, 1), padding=(1, 1, 1)),
        conv("8 slices of a filter", 1, 24, 24, (8, 5, 7), (8, 3, 3), padding=1),
    ),
    group(
        "product",
        "rests of tiles",
        *[conv(f"{p}", 1, 15 + p * 5 % 18, 15 + p * 7 % 18, p, 3, padding=1) for p in range(1, 66)],
    ),
    *[
        group("product", f"{what}, {kernel}", *[conv(f"{b}", *shape(b), kernel, **options) for b in BORDERS])
        for kernel, options in ((1, {}), (3, {"padding": 1}))
        for what, shape in {
            "pixels": lambda b: (1, 17, 19, b),
            "channels in": lambda b: (1, b, 17, 19),
            "channels out": lambda b: (1, 17, b, 19),
        }.items()
    ],
    group(
        "product",
        "pieces of channels",
        *[conv(f"{c} out", 1, 15, c, 5, 1) for c in (1535, 1536, 1537)],
        *[conv(f"{c} in", 1, c, 15, 5, 1) for c in (1535, 1536, 1537)],
        conv("2 groups of 193", 1, 386, 386, (3, 3), 1, 2),
    ),
    group(
        "product",
        "channels read in place",
        *[conv(f"{p} pixels", 1, 16, 18, p, 1) for p in (95, 96, 97, 191, 192, 193)],
        *[
            conv(f"{c} to {k}", 2, c, k, (7, 9), 1)
            for c, k in (
                (8, 24),
                (24, 16),
                (32, 17),
                (40, 25),
                (48, 80),
                (64, 19),
                (120, 21),
                (136, 18),
                (248, 20),
                (256, 22),
            )
        ],
        conv("2 groups of 16", 2, 32, 36, (7, 9), 1, 2),
    ),
    group(
        "product",
        "planes read row by row, blocks of the reduction",
        *[
            conv(f"{c} to {k}, {h}x{w}", 1, c, k, (h, w), 1)
            for c, k in ((35, 21), (21, 35))
            for h, w in ((5, 19), (8, 12), (1, 97), (17, 47), (20, 40), (9, 89), (35, 46))
        ],
        *[conv(f"{n} of 10x10", n, 33, 17, (10, 10), 1) for n in (7, 8, 9, 17)],
        conv("2 groups", 3, 50, 34, (9, 11), 1, 2),
        conv("2x3", 3, 18, 17, (9, 13), (2, 3)),
        conv("stride 2", 3, 18, 17, (23, 19), 1, stride=2),
    ),
    group(
        "product",
        "images",
        *[conv(f"{n} of 5", n, 16, 18, 5, 3, padding=1) for n in (12, 13, 38, 39, 51, 52, 64, 65)],
        *[conv(f"{n} of 3x5", n, 16, 18, (3, 5), 3, stride=2, padding=1) for n in (7, 17, 33)],
    ),
    group(
        "product",
        "phases",
        conv("stride 2 1x1", 2, 17, 19, (13, 15), 1, stride=2),
        conv("stride 2 4x4", 2, 33, 18, (13, 15), 4, stride=2, padding=1),
        conv("stride 3,2 dilation 2", 1, 18, 33, (19, 23), 3, stride=(3, 2), dilation=2, padding=3),
        conv("3-D stride 2,1,2", 1, 18, 16, (5, 6, 7), 3, stride=(2, 1, 2), padding=1),
        conv("2 groups of 65 stride 2", 1, 130, 132, (15, 14), 5, 2, stride=2, padding=2),
    ),
]

_pointwise = [
    group("1x1", "rests of tiles", *[conv(f"{p}", 1, 12 + p * 5 % 19, 15 + p * 7 % 41, p, 1) for p in range(1, 44)]),
    group(
        "1x1",
        "images, whose pixels fill vectors or do not",
        *[conv(f"{n} of {h}x{w}", n, 33, 40, (h, w), 1) for n, h, w in ((3, 8, 8), (2, 7, 28), (2, 3, 267), (3, 5, 9))],
        conv("volumes", 2, 17, 24, (3, 8, 10), 1),
        conv("2 groups of 24", 2, 48, 48, (8, 12), 1, 2),
    ),
    group(
        "1x1",
        "panels that stay in L1 together",
        *[
            conv(f"{i} to {o}", 1, i, o, (5, 11), 1)
            for i, o in ((16, 255), (16, 272), (17, 280), (64, 64), (64, 72), (65, 80), (128, 40), (129, 48), (256, 33))
        ],
    ),
]

_direct = [
    group("direct", "widths", *[conv(f"{w}", 1, 6, 8, (3, w), 3, 2, padding=1) for w in WIDTHS]),
    group(
        "direct",
        "widths, stride 2",
        *[conv(f"{w}", 2, 8, 6, 2 * w, 4, 2, stride=2, padding=1) for w in WIDTHS],
    ),
    group(
        "direct",
        "taps",
        *[conv(f"{k}", 1, 4, 6, 21, k, 2, padding=k // 2) for k in range(1, 14)],
        *[
            conv(f"{k}x3 stride 3,2 dilation 2", 2, 6, 4, (23, 19), (k, 3), 2, stride=(3, 2), dilation=2, padding=2)
            for k in (1, 2, 5)
        ],
    ),
    group(
        "direct",
        "planes in parts",
        conv("rows", 1, 8, 8, (900, 2), 3, 2, padding=1),
        conv("rows, stride 2", 2, 8, 6, (800, 2), 3, 2, padding=1, stride=(2, 1)),
        conv("slices", 1, 8, 8, (110, 4, 4), 3, 2, padding=1),
        conv("negative pads", 1, 8, 8, (900, 2), (3, 1), 2, padding=((-3, -1), (0, 2))),
    ),
    group(
        "few channels",
        "groups of up to 7",
        *[
            conv(f"{i} to {o}", 2, 2 * i, 2 * o, (5, 9), 3, 2, padding=1)
            for i, o in ((5, 7), (7, 5), (7, 7), (1, 5), (6, 2))
        ],
        conv("rows", 1, 14, 14, (480, 4), 3, 2, padding=1),
    ),
    group(
        "few channels",
        "no groups",
        *[conv(f"{i} to {o}", 2, i, o, (7, 17), 3, padding=1) for i in (1, 2, 3) for o in (1, 3)],
        conv("stride 2", 1, 3, 3, (20, 33), 5, stride=2, padding=2),
    ),
]

_depthwise = [
    group("depthwise", "channels", *[conv(f"{c}", 1, c, c, (5, 7), 3, c, padding=1) for c in (2, *WIDTHS)]),
    group("depthwise", "pixels", *[conv(f"{p}", 1, 17, 17, p, 3, 17, padding=1) for p in (2, 3, 4, 5, *BORDERS)]),
    group(
        "depthwise",
        "blocks of lines, parts of channels",
        conv("lines", 2, 67, 67, (31, 43), 3, 67, padding=1),
        conv("lines, stride 2", 1, 66, 66, (43, 45), 5, 66, stride=2, padding=2),
        conv("parts", 2, 353, 353, (9, 15), 3, 353, padding=1),
        conv("parts, stride 2", 1, 352, 352, (8, 29), 3, 352, stride=2, padding=1),
        conv("parts of many taps", 1, 9, 9, (5, 40), (3, 65), 9, padding=(1, 32)),
    ),
    group("depthwise", "taps", *[conv(f"{k}", 2, 9, 9, 21, k, 9, padding=k // 2) for k in range(1, 14)]),
    group(
        "depthwise",
        "phases",
        conv("stride 2", 2, 33, 33, (15, 16), 3, 33, stride=2, padding=1),
        conv("stride 3,2 dilation 2", 2, 18, 18, (19, 21), 3, 18, stride=(3, 2), dilation=2, padding=3),
        conv("stride 4 over 3", 1, 20, 20, (17, 18), 3, 20, stride=4),
        conv("negative pads", 1, 20, 20, (17, 18), 3, 20, padding=((-2, 4), (3, -5))),
        conv("pads beyond the image", 1, 18, 18, (3, 2), 5, 18, stride=(1, 2), padding=7),
    ),
    group(
        "depthwise",
        "lines and tiles of each form",
        *[
            conv(f"{k} by {s}, {h} lines", 2, 16, 16, (h, 9), k, 16, stride=s, padding=1)
            for k in ((3, 3), (5, 5), (3, 5), (1, 3))
            for s in (1, 2)
            for h in range(3, 14)
        ],
    ),
    group("depthwise rows", "columns", *[conv(f"{w}", 2, 3, 3, (5, w), 3, 3, padding=1) for w in WIDTHS]),
    group(
        "depthwise rows",
        "lines of each form",
        *[
            conv(f"{k}, {h} lines", 2, 5, 5, (h, 19), k, 5, padding=1)
            for k in ((3, 3), (5, 5), (3, 5), (1, 3), (7, 1))
            for h in range(5, 12)
        ],
    ),
    group(
        "depthwise rows",
        "blocks, pieces, pads",
        conv("many lines", 2, 3, 3, (41, 47), 5, 3, padding=2),
        conv("planes of a piece", 3, 67, 67, (6, 13), 3, 67, padding=1),
        conv("dilation", 2, 7, 7, (21, 33), 3, 7, dilation=(2, 3), padding=(1, 4)),
        conv("many taps", 1, 5, 5, (17, 90), (4, 33), 5, padding=(1, 16)),
        conv("negative pads", 1, 6, 6, (17, 38), 3, 6, padding=((-2, 4), (3, -5))),
        conv("pads beyond the image", 1, 6, 6, (3, 9), 5, 6, padding=7),
    ),
    group(
        "depthwise rows of steps",
        "phases of rows",
        *[conv(f"{k} by 2, {w}", 2, 5, 5, (11, w), k, 5, stride=2, padding=k // 2) for k in (3, 5) for w in WIDTHS],
        conv("2, 7 taps", 2, 5, 5, (21, 33), 7, 5, stride=2, padding=3),
        conv("3 by 2, dilation 3", 2, 5, 5, (31, 44), 3, 5, stride=(3, 2), dilation=(1, 3), padding=(1, 4)),
        conv("5 by 2 over 2", 1, 5, 5, (21, 90), 2, 5, stride=(5, 2), padding=((1, 0), (3, 4))),
        conv("negative pads", 1, 6, 6, (27, 68), 3, 6, stride=2, padding=((-2, 4), (-3, -5))),
    ),
    group(
        "depthwise volumes",
        "slices",
        conv("3-D", 1, 19, 19, (5, 6, 7), 3, 19, stride=(1, 2, 1), padding=1),
        conv("3-D, flat", 1, 8, 8, (5, 9, 8), (1, 3, 3), 8, padding=(0, 1, 1)),
        *[
            conv(f"3-D, {k} deep, {h} lines", 2, 19, 19, (7, h, 6), (k, 3, 3), 19, padding=1)
            for k, h in ((2, 3), (3, 6), (6, 5), (7, 4), (8, 5))
        ],
        conv("3-D, a vector", 1, 8, 8, (5, 9, 10), 3, 8, padding=1),
        conv(
            "3-D, slices between", 1, 18, 18, (9, 7, 8), 3, 18, stride=(2, 1, 1), dilation=(3, 1, 1), padding=(3, 1, 1)
        ),
    ),
]

_lines = [
    group("stem", "channels", *[conv(f"3 to {c}", 1, 3, c, (7, 9), 3, padding=1) for c in range(9, 50)]),
    group("stem", "channels of the source", *[conv(f"{c}", 2, c, 21, (9, 11), 3, padding=1) for c in (1, 2, 3)]),
    group(
        "stem",
        "pixels of a row",
        *[conv(f"{w}", 1, 3, 17, (3, w), 3, stride=(1, 1 + w % 2), padding=1) for w in (*range(1, 60), 255, 256, 257)],
    ),
    group(
        "stem",
        "taps",
        *[conv(f"{k}", 2, 2, 16, (15, 17), k, padding=k // 2) for k in range(2, 14)],
        conv("stride 4, dilation 2", 2, 3, 18, (43, 45), 5, stride=4, padding=3, dilation=2),
        conv("negative pads", 1, 3, 16, (20, 21), 3, padding=((-2, 3), (4, -5))),
        conv("3-D", 2, 3, 16, (5, 7, 9), 3, stride=(2, 1, 2), padding=1),
        conv("3-D, no slice", 1, 3, 16, (1, 7, 9), 3, padding=(2, 1, 1)),
        conv("1-D", 2, 3, 16, 100, 5, padding=2),
    ),
    group("stem", "rows of a sum", *[conv(f"{h}", 2, 3, 16, (h, 64), 3, padding=1) for h in (3, 4, 5, 29)]),
    group(
        "groups",
        "channels",
        *[
            conv(f"{g} of {i} to {o}", 1, g * i, g * o, (5, 9), 5, g, padding=2)
            for g, i, o in ((2, 9, 9), (3, 15, 17), (2, 16, 16), (5, 17, 15), (3, 23, 33), (2, 33, 23), (2, 64, 16))
        ],
    ),
    group(
        "groups",
        "phases",
        conv("stride 2", 2, 36, 40, (15, 14), 3, 2, stride=2, padding=1),
        conv("stride 3, dilation 2", 1, 36, 40, (19, 17), 3, 2, stride=3, dilation=2, padding=3),
        conv("stride 4 over 3", 1, 36, 40, (17, 18), 3, 2, stride=4),
        conv("3-D", 1, 36, 40, (5, 6, 7), 3, 2, stride=(2, 1, 2), padding=1),
    ),
    group(
        "groups", "rows of a copy", *[conv(f"{h}", 1, 48, 48, (h, 2), (5, 1), 3, padding=(2, 0)) for h in (393, 800)]
    ),
    group(
        "groups of 8", "groups", *[conv(f"{g}", 2, 8 * g, 8 * g, (5, 17), 3, g, padding=1) for g in (2, 7, 8, 9, 17)]
    ),
]

GROUPS = [*_wino, *_wino_line, *_wino_strided, *_product, *_pointwise, *_direct, *_lines, *_depthwise]

#: Families whose results are not whole numbers where the operands are.
WINOGRADS = tuple(family for family, names in ALGORITHMS.items() if names["y"][0].startswith("winograd"))

#: One of each family, with more than one image, rests everywhere, and enough to do for several threads.
TYPICAL = {
    "winograd": conv("typical", 3, 26, 25, (11, 18), 3, padding=1),
    "winograd 5x5": conv("typical", 3, 15, 13, (11, 18), 5, padding=2),
    "winograd by filters": conv("typical", 3, 130, 121, (11, 18), 3, padding=1),
    "winograd 5x5 by filters": conv("typical", 2, 122, 129, (11, 18), 5, padding=2),
    "winograd dilated": conv("typical", 3, 26, 25, (22, 37), 3, padding=2, dilation=2),
    "winograd 5x5 dilated": conv("typical", 3, 26, 25, (22, 37), 5, padding=4, dilation=2),
    "winograd dilated by filters": conv("typical", 3, 130, 121, (15, 37), 3, padding=2, dilation=2),
    **{
        f"winograd line {points}": conv(
            "typical", 3, 129, 122, (11, 20 if points == 6 else 18), (1, taps), padding=(0, taps // 2)
        )
        for points, ((taps, _), *_others) in _LINES.items()
    },
    "winograd line, 9 taps, 10": conv("typical", 3, 34, 33, (11, 18), (1, 9), padding=(0, 4)),
    "winograd line rows 10": conv("typical", 3, 34, 33, (11, 18), 7, padding=3),
    "winograd 3-D": conv("typical", 3, 26, 25, (3, 11, 18), 3, padding=1),
    "winograd 3-D by filters": conv("typical", 2, 94, 97, (3, 11, 18), 3, padding=1),
    "winograd stride 2": _strided("typical", 3, 66, 65, (23, 36)),
    "1x1": conv("typical", 3, 34, 40, (16, 20), 1),
    "product": conv("typical", 3, 27, 22, (13, 19), (3, 4), padding=(1, 2), stride=(1, 2)),
    "direct": conv("typical", 3, 12, 9, (39, 37), 3, 3, padding=(1, 2)),
    "few channels": conv("typical", 3, 14, 12, (25, 31), 3, 2, padding=1),
    "stem": conv("typical", 3, 3, 41, (13, 151), 5, stride=2, padding=(1, 2)),
    "groups": conv("typical", 3, 51, 57, (17, 19), 5, 3, stride=(1, 2), padding=(1, 2)),
    "groups of 8": conv("typical", 3, 72, 72, (17, 19), 3, 9, padding=(1, 2)),
    "depthwise": conv("typical", 3, 37, 37, (81, 11), 5, 37, padding=2),
    "depthwise rows": conv("typical", 3, 37, 37, (41, 39), 5, 37, padding=2),
    "depthwise rows of steps": conv("typical", 3, 37, 37, (23, 79), 5, 37, padding=2, stride=2),
}
