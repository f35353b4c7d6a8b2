"""The demo from beginning to end."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console

from .. import nn
from ..backends import backends
from . import comparison, digits, photos, pictures

__all__ = ["tell"]


def tell(output: Path, seed: int, epochs: int | None) -> list[str]:
    """Everything that ``fastconv.demo.run`` promises; ``output`` is a directory that can be written to."""
    console = Console(soft_wrap=True, highlight=False)
    start = perf_counter()
    split, gallery = digits.load(seed), photos.load()

    # First of all, while no kernel has been compiled yet: the first calls are timed too.
    with console.status("timing every backend (the first call may compile) ..."):
        lines = comparison.compare(gallery[0], *split.test, seed)
    failures = [
        f"{line.stage} on {line.backend}: {line.difference:.1e} from the reference, allowed is {line.tolerance:.0e}"
        for line in lines
        if not line.passed
    ]

    console.rule("Photographs: edge detection and sharpening")
    for photo in gallery:
        path = output / f"{photo.name}.png"
        pictures.photo(photo, path)
        _wrote(console, path)

    console.rule("Handwritten digits: a LeNet learns")
    failures += _learn(console, output, split, seed, digits.EPOCHS if epochs is None else epochs)

    console.rule("Backends")
    for name, reason in backends().items():
        if reason is not None:
            console.print(f"{name} cannot run here: {reason}")
    console.print(comparison.table(lines))
    for line in lines:
        if line.refusal:
            console.print(f"{line.stage}: {line.refusal}", markup=False)
    console.print(f"all in {perf_counter() - start:.0f} s")
    return failures


def _learn(console: Console, output: Path, split: digits.Split, seed: int, epochs: int) -> list[str]:
    parts = ", ".join(f"{len(t)} {name}" for name, (_, t) in split._asdict().items())
    console.print(f"images: {parts}")
    console.print(str(digits.network(seed).summary(digits.INPUT_SHAPE)), markup=False)
    net, history = digits.train(split, seed, epochs)
    x, t = split.test
    scores = nn.predict(net, x)
    predictions = scores.argmax(1)
    correct = int((predictions == t).sum())
    console.print(f"held-out quarter: {correct} of {len(t)} correct, {correct / len(t):.2%}")

    written = {name: output / name for name in ("learning.png", "confusion.png", "filters.png", "features.png")}
    pictures.learning(history, written["learning.png"])
    pictures.confusion(t, predictions, written["confusion.png"])
    pictures.filters(net[0].weight.value, written["filters.png"])
    maps = nn.predict(net[:2], x[:1])[0]
    pictures.features(x[0, 0], int(t[0]), maps, written["features.png"])
    weights = output / "lenet.safetensors"
    net.save(weights)
    for path in (*written.values(), weights):
        _wrote(console, path)

    failures = []
    fresh = digits.network()
    fresh.load(weights)
    if np.array_equal(nn.predict(fresh, x), scores):
        console.print("weights loaded into a new network: the same predictions, bit by bit")
    else:
        failures.append(f"the weights in {weights} do not predict the same")
    if correct < digits.REQUIRED_ACCURACY * len(t):
        failures.append(f"accuracy is {correct / len(t):.2%}, required is {digits.REQUIRED_ACCURACY:.0%}")
    return failures


def _wrote(console: Console, path: Path) -> None:
    console.print(f"wrote {path}", markup=False)
