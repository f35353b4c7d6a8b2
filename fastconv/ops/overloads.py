"""What ``return_indices`` makes of a maximum's type. Type checkers alone read this; ``of_ranks`` has the functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, overload

import numpy as np

from ..spec import Ints, Padding


class MaxPool(Protocol):
    @overload
    def __call__(
        self,
        x: np.ndarray,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: Literal[False] = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self,
        x: np.ndarray,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        *,
        return_indices: Literal[True],
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def __call__(
        self,
        x: np.ndarray,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...


class AdaptiveMaxPool(Protocol):
    @overload
    def __call__(
        self,
        x: np.ndarray,
        output_size: int | Sequence[int | None],
        return_indices: Literal[False] = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self,
        x: np.ndarray,
        output_size: int | Sequence[int | None],
        return_indices: Literal[True],
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def __call__(
        self,
        x: np.ndarray,
        output_size: int | Sequence[int | None],
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...
