"""Winograd's algorithms: which layers each computes and what its tiles are; whether it pays."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .....spec import ConvSpec
from ....heuristics import HEURISTICS
from ...core.compile import part
from ..layer import Layer
from .square import values_of

__all__ = [
    "LINE", "NAMES", "SQUARE", "STRIDED", "TURNS", "Scheme", "layer_of", "patch_at", "place_of", "refuse", "scheme_of",
    "slow", "tile_at", "tiles_of",
]  # fmt: skip

#: The same map along both sides; by steps of 2; that backward-input; along one axis.
SQUARE, STRIDED, TURNS, LINE = range(4)

#: Of groups the transforms cost more here than in C: with fewer than so many times the channels more than they save.
_GROUPED = 2


def layer_of(spec: ConvSpec) -> Layer:
    """The last two of its dimensions have the tiles: taps along the depth alone are rows."""
    return Layer.of(spec, (1, 0, 2) if spec.ndim == 3 and spec.kernel[1:] == (1, 1) else (0, 1, 2))


@dataclass(frozen=True)
class Scheme:
    """Values along a side (or along the axis), the patch, the tile, and pixels from patch to patch."""

    number: int
    values: int
    patch: tuple[int, int]
    side: tuple[int, int]
    hop: tuple[int, int]
    blocks: list[tuple[int, int]]

    @property
    def all_values(self) -> int:
        return sum(many for _, many in self.blocks)


#: Algorithms: their scheme; taps, or points of a line.
NAMES = {
    "winograd_4x4_3x3": (SQUARE, 3),
    "winograd_line_6": (LINE, 6),
    "winograd_line_8": (LINE, 8),
    "winograd_line_10": (LINE, 10),
    "winograd_2x2_5x5": (SQUARE, 5),
    "winograd_4x4_3x3_stride2": (STRIDED, 3),
}


def scheme_of(name: str, layer: Layer) -> Scheme:
    number, many = NAMES[name]
    if number == LINE:
        side = many + 1 - layer.kernel[layer.axis]
        along = layer.axis == 2
        patch, tile = ((1, many), (1, side)) if along else ((many, 1), (side, 1))
        return Scheme(LINE, many, patch, tile, tile, [(i, 1) for i in range(many)])
    if number == SQUARE:
        side = 7 - many
        return Scheme(SQUARE, 6, (6, 6), (side, side), (side, side), values_of(6))
    if layer.backward:
        return Scheme(TURNS, 9, (5, 5), (8, 8), (4, 4), values_of(9))
    return Scheme(STRIDED, 9, (9, 9), (4, 4), (8, 8), values_of(9))


def tiles_of(size: int, apart: int, side: int) -> int:
    """Tiles along a side: each remainder of the results has tiles of its own."""
    whole, longer = divmod(size, apart)
    return longer * -(-(whole + 1) // side) + (min(apart, size) - longer) * -(-whole // side)


@part
def tile_at(number, size, apart, side):
    """Where tile ``number`` along a side begins, remainder after remainder; how many adjoin from it on."""
    whole, longer = size // apart, size % apart
    # The first remainders may have a result more than the others.
    many = (whole + side) // side
    first = 0
    if number >= longer * many:
        number -= longer * many
        first, many = longer, (whole + side - 1) // side
    return first + number // many + number % many * side * apart, many - number % many


@part
def place_of(job, number):
    """Of a tile: its image, its slice of the result, where there it begins; how many adjoin from it on in its row.

    ``job`` has the tiles and the results in the fields of ``multiply.PROBLEM``.
    """
    column, row, plane = number % job.wide, number // job.wide % job.high, number // (job.wide * job.high)
    h, _ = tile_at(row, job.out_height, job.apart_1, job.side_1)
    w, adjoin = tile_at(column, job.out_width, job.apart_2, job.side_2)
    return plane // job.out_depth, plane % job.out_depth, h, w, adjoin


@part
def patch_at(job, h, w):
    """Where in the source the patch of the tile at (h, w) begins."""
    return h * job.hop_1 // job.side_1 + job.low_1, w * job.hop_2 // job.side_2 + job.low_2


def _cost(name: str, layer: Layer) -> float:
    """What a channel costs, in products: those of all tiles, and as much as its filters' transform takes."""
    points, axis = NAMES[name][1], layer.axis
    if points <= layer.kernel[axis]:
        return float("inf")
    _, size = layer.sizes
    tiles = layer.spec.n * prod(size) // size[axis] * -(-size[axis] // (points + 1 - layer.kernel[axis]))
    filters = HEURISTICS.LINE_FILTERS_PACKED if layer.spec.packed else HEURISTICS.LINE_FILTERS
    return points * (tiles + filters) * (HEURISTICS.LINE_POINTS_COST / 100 if points == 10 else 1)


def refuse(spec: ConvSpec, name: str, precision: str) -> str | None:
    """Why an algorithm does not compute it; None if it does."""
    layer, (number, many) = layer_of(spec), NAMES[name]
    flat = (layer.kernel[0], layer.in_size[0], layer.out_size[0], layer.lo[0]) == (1, 1, 1, 0)
    stride = 2 if number == STRIDED else 1
    if number == LINE:
        sides = zip(layer.in_size, layer.out_size, layer.lo, layer.stride, strict=True)
        others = [side for i, side in enumerate(sides) if i != layer.axis]
        alone = layer.kernel[0] == 1 and all(i == o and lo == 0 and (s == 1 or o == 1) for i, o, lo, s in others)
        if not alone or not 1 < layer.kernel[layer.axis] < many:
            return ""
        strides = {layer.stride[layer.axis]}
    else:
        deep = layer.kernel[0] > HEURISTICS.WINOGRAD_SLICES
        if layer.kernel[1:] != (many, many) or deep or (number == STRIDED and not flat):
            return "the kernel is not 3x3" if name == "winograd_4x4_3x3" else ""
        strides = {*layer.stride[1:]} if flat else {*layer.stride}
    if strides != {stride}:
        return f"the stride is not {stride}"
    if number != SQUARE and max(layer.dilation[1:]) != 1:
        return "the dilation is not 1"
    if precision == "strict":
        return "strict precision takes direct algorithms only"
    if number == LINE and spec.direction == "bwd_weight" and layer.kernel[layer.axis] > HEURISTICS.LINE_TAPS_WEIGHT:
        return "gradients of so many taps round too much"
    return None


def slow(spec: ConvSpec, name: str) -> str | None:
    """Why it costs more than it saves; None if it does not."""
    layer, h = layer_of(spec), HEURISTICS
    number, scheme = NAMES[name][0], scheme_of(name, layer)
    weight, (_, size) = spec.direction == "bwd_weight", layer.sizes
    taps, results = prod(layer.kernel), spec.n * prod(size)
    sides = zip(size[1:], layer.dilation[1:], scheme.side, strict=True)
    tiles = spec.n * size[0] * prod(tiles_of(*side) for side in sides)
    if number == LINE:
        last = (h.LINE_CHANNELS_TAPS_WEIGHT if weight else h.LINE_CHANNELS_TAPS) // taps
        channels = max(h.LINE_CHANNELS, last) if spec.channels_last else h.LINE_CHANNELS
        forward = (h.LINE_RESULTS_TAPS_PACKED if spec.packed else h.LINE_RESULTS_TAPS) // taps
        few = results < (h.LINE_RESULTS_TAPS_WEIGHT // taps**2 if weight else forward)
    elif number == SQUARE:
        channels = h.WINOGRAD_CHANNELS * (1 if spec.groups == 1 else _GROUPED)
        few = tiles < (h.WINOGRAD_TILES_PACKED if spec.packed else h.WINOGRAD_TILES)
    else:
        last = h.STRIDED_CHANNELS_LAST_WEIGHT if weight else h.STRIDED_CHANNELS_LAST
        channels = last if spec.channels_last else h.STRIDED_CHANNELS
        unpacked = spec.direction == "fwd" and not spec.packed
        few = tiles < (h.STRIDED_TILES_FORWARD if unpacked else h.STRIDED_TILES)
    if min(layer.channels) < channels:
        return "too few channels to pay for the transforms"
    if few:
        return "too few tiles to pay for transforming the filters"
    if number == LINE and name != min((n for n in NAMES if NAMES[n][0] == LINE), key=lambda n: _cost(n, layer)):
        return "another number of points takes fewer products"
    if number == SQUARE and 2 * tiles * scheme.all_values > results * prod(layer.kernel[1:]):
        return "the tiles are mostly empty"
    return None
