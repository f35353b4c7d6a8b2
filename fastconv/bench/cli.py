"""The command ``fastconv bench``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import info
from .._options import positive
from ..settings import ORDER, PRECISIONS
from . import HELP, goals, peers, report
from .clock import Clock
from .layers import DIRECTIONS, OPS, Problem, directions, select
from .measure import OURS, Contender, Settings, clock_rate, measure_all
from .suite import SUITES

__all__ = ["add_to", "run"]

#: The layout of the JSON files; a reader that knows another one refuses.
FORMAT = 1

#: Characters a line where the output is no terminal: enough for every table.
WIDTH = 400

DTYPES = ("float32", "float64")
WEIGHTS = ("constant", "changing")
LAYOUTS = ("NCHW", "NHWC")

#: What is measured where nothing is said.
_NETWORKS = {"conv": ["resnet50_v1_5"], "gemm": ["squares"], "pool": None}


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of ``fastconv``."""
    parser = commands.add_parser(
        "bench",
        help=HELP,
        description="Times fastconv and the other packages that are installed, each in a process of its own, in turns. "
        "Lists are separated by commas.",
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("--op", choices=OPS, default="conv", help="default: %(default)s")
    what.add_argument(
        "--network", type=_list(), metavar="LIST", help="of shapes/*.csv, or all (default: resnet50_v1_5)"
    )
    what.add_argument("--layers", metavar="PATTERN", help="layers by name, such as 'res2*'")
    what.add_argument("--class", dest="kinds", type=_list(), metavar="LIST", help="3x3s1, 1x1, depthwise, ...")
    what.add_argument("--n", type=_integers, default=[8], metavar="LIST", help="images (default: 8)")
    what.add_argument(
        "--direction",
        type=_list(DIRECTIONS),
        default=["fwd"],
        metavar="LIST",
        help=f"{', '.join(DIRECTIONS)} (default: fwd)",
    )
    what.add_argument("--dtype", type=_list(DTYPES), default=["float32"], metavar="LIST", help="default: float32")
    what.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="constant",
        help="of forward convolutions: packed beforehand, or handed over anew with every call (default: %(default)s)",
    )
    what.add_argument(
        "--behind",
        type=int,
        choices=range(0, 64, 8),
        metavar="BYTES",
        default=0,
        help="operands begin so many bytes behind a cache line: 16 as NumPy's large arrays do (default: 0, as those of "
        "frameworks)",
    )
    what.add_argument("--precision", type=_list(PRECISIONS), default=["default"], metavar="LIST")
    what.add_argument(
        "--suite", choices=tuple(SUITES), help="the claims that the project makes, instead of all of the above"
    )

    who = parser.add_argument_group("whom")
    who.add_argument("--backend", type=_list(ORDER), metavar="LIST", help="default: what fastconv chooses")
    who.add_argument("--isa", type=_list(), metavar="LIST", help="instruction sets (default: the best)")
    who.add_argument(
        "--algorithm",
        type=_list(),
        default=[],
        metavar="LIST",
        help="of convolutions: each as a contender beside what fastconv chooses, wherever it can compute the layer",
    )
    who.add_argument(
        "--layout",
        type=_list(LAYOUTS),
        default=list(LAYOUTS),
        metavar="LIST",
        help="of fastconv (default: the better one)",
    )
    who.add_argument(
        "--peers",
        type=_list((*peers.NAMES, "none")),
        default=list(peers.NAMES),
        metavar="LIST",
        help=f"{', '.join(peers.NAMES)}, or none (default: all that are installed)",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--threads", type=_integers, default=[1], metavar="LIST", help="default: 1")
    how.add_argument(
        "--busy", action="store_true", help="time it once more while another process keeps one of the cores busy"
    )
    how.add_argument("--seconds", type=positive, default=1.0, help="for one layer, about (default: %(default)s)")
    how.add_argument(
        "--clock",
        choices=("auto", "cycles", "wall"),
        default="auto",
        help="auto: the processor's cycles where they can be counted and with one thread, else wall time",
    )

    output = parser.add_argument_group("what to do with the result")
    output.add_argument("--output", type=Path, metavar="FILE", help="write it as JSON")
    output.add_argument("--plots", type=Path, metavar="DIR", help="draw pictures")
    output.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    instead = parser.add_argument_group("instead of measuring").add_mutually_exclusive_group()
    instead.add_argument("--report", type=Path, metavar="FILE", help="show a result that was written before")
    instead.add_argument("--compare", type=Path, nargs=2, metavar="FILE", help="what changed between two results")
    instead.add_argument(
        "--goals",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="how the classes of layers in these results stand, on so many --threads",
    )
    instead.add_argument("--list", action="store_true", help="the layers that would be measured")
    parser.set_defaults(run=run)


def _list(allowed: Sequence[str] | None = None) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",")]
        for name in found:
            if not name or (allowed is not None and name not in allowed):
                raise argparse.ArgumentTypeError(f"{name!r}: allowed is {', '.join(allowed) if allowed else 'a name'}")
        return found

    return names


def _integers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are integers >= 1, separated by commas")
    return [int(part) for part in parts]


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says. 0: all well; 1: contenders disagree, or a claim fails; 2: it cannot start."""
    try:
        return _run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"fastconv bench: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    needed = {"rich"} | ({"matplotlib"} if arguments.plots else set())
    if missing := sorted(name for name in needed if find_spec(name) is None):
        raise RuntimeError(f'missing packages: {", ".join(missing)}; install them with: pip install "fastconv[bench]"')
    show = _Printer(arguments.markdown)
    if arguments.compare:
        show(report.comparison(*map(_read, arguments.compare)))
        return 0
    if arguments.goals:
        show(goals.reached(map(_read, arguments.goals), arguments.threads))
        return 0
    if arguments.list:
        show(_listing(arguments))
        return 0
    if arguments.report:
        result = _read(arguments.report)
    else:
        result = _measured(arguments)
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    show.lines(report.heading(result))
    for table in report.tables(result):
        show(table)
    if arguments.plots:
        from . import plots

        show.lines(f"wrote {path}" for path in plots.draw(result, arguments.plots))
    return _verdict(result)


def _verdict(result: dict[str, Any]) -> int:
    problems = [
        f"{row['network']} {row['layer']} {row['direction']}: {key} differs from {result['ours'][0]} by {difference}"
        for row in result["rows"]
        for key, difference in row["wrong"].items()
    ]
    problems += [f"not met: {claim['claim']}" for claim in result.get("claims", ()) if not claim["met"]]
    for problem in problems:
        print(f"fastconv bench: {problem}", file=sys.stderr)
    return 1 if problems else 0


class _Printer:
    """Prints tables for the terminal, or in Markdown."""

    def __init__(self, markdown: bool) -> None:
        from rich.console import Console

        self._markdown = markdown
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = WIDTH

    def __call__(self, table: report.Table) -> None:
        if self._markdown:
            print(report.as_markdown(table), end="\n\n")
        else:
            self._console.print(report.as_rich(table))

    def lines(self, lines: Any) -> None:
        for line in lines:
            print(f"- {line}" if self._markdown else line)
        if self._markdown:
            print()


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ValueError(f"{path} is no result of this version of fastconv bench")
    for row in result["rows"]:
        row.setdefault("cores", "idle")  # as all were before they could be busy
    return result


def _layers(arguments: argparse.Namespace) -> list[Any]:
    networks = _NETWORKS[arguments.op] if arguments.network is None else arguments.network
    if arguments.network is None and (arguments.layers or arguments.kinds):
        networks = None
    return select(arguments.op, None if networks == ["all"] else networks, arguments.layers, arguments.kinds)


def _listing(arguments: argparse.Namespace) -> report.Table:
    rows = [[layer.network, layer.layer, layer.kind, str(layer), str(layer.count)] for layer in _layers(arguments)]
    return report.Table(f"{len(rows)} layers", ["network", "layer", "class", "shape", "times"], rows)


def _problems(arguments: argparse.Namespace) -> list[Problem]:
    allowed = directions(arguments.op)
    possible = [d for d in arguments.direction if d in allowed]
    if not possible:
        raise ValueError(
            f"direction {','.join(arguments.direction)}: allowed for {arguments.op} is {', '.join(allowed)}"
        )
    problems = [
        # Only the forward direction has weights that can be packed beforehand.
        Problem(
            layer,
            n,
            direction,
            dtype,
            arguments.weights if direction == "fwd" else "changing",
            precision,
            behind=arguments.behind,
        )
        for dtype in arguments.dtype
        for n in arguments.n
        for direction in possible
        for precision in arguments.precision
        for layer in _layers(arguments)
    ]
    return list(dict.fromkeys(problems))


def _contenders(arguments: argparse.Namespace) -> list[Contender]:
    found = []
    for backend in arguments.backend or [None]:
        for isa in (arguments.isa or [None]) if backend in (None, "c") else [None]:
            for algorithm in (None, *arguments.algorithm):
                label = "fastconv" + (f":{backend}" if backend else "") + (f"/{isa}" if isa else "")
                options = {"backend": backend, "isa": isa, "algorithm": algorithm, "layouts": tuple(arguments.layout)}
                found.append(Contender(label + (f" {algorithm}" if algorithm else ""), OURS, options))
    return found + [Contender(name, f"{peers.__name__}.{name}") for name in arguments.peers if name != "none"]


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    if problems := info.problems():
        raise ValueError("; ".join(problems))
    if arguments.output and not arguments.output.parent.is_dir():
        raise ValueError(f"output {str(arguments.output)!r}: there is no directory {str(arguments.output.parent)!r}")
    if arguments.suite:
        steps, measured = SUITES[arguments.suite]
        with _progress(steps) as progress:
            found = measured(arguments.seconds, arguments.clock, progress)
    else:
        found = _campaign(arguments)
    about = info.gather()
    return {
        "format": FORMAT,
        "command": shlex.join(["fastconv", *sys.argv[1:]]),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": {"cpu": about["cpu"], "cpus": os.cpu_count(), "platform": about["platform"]},
        "ghz": clock_rate(found["rows"]),
        "cycles": Clock().counts,
        **found,
        "versions": {"python": about["versions"]["python"], "numpy": about["versions"]["numpy"]} | found["versions"],
    }


def _campaign(arguments: argparse.Namespace) -> dict[str, Any]:
    problems, contenders = _problems(arguments), _contenders(arguments)
    found: dict[str, Any] = {"rows": [], "versions": {}, "missing": {}}
    conditions = [(threads, busy) for threads in arguments.threads for busy in ([False, True][: 1 + arguments.busy])]
    with _progress(len(problems) * len(conditions)) as progress:
        for threads, busy in conditions:
            settings = Settings(threads, arguments.clock, arguments.seconds, busy)
            part = measure_all(problems, contenders, settings, progress)
            found["rows"] += part["rows"]
            found["versions"] |= part["versions"]
            found["missing"] |= part["missing"]
    return found | {"ours": [c.label for c in contenders if c.module == OURS and c.label not in found["missing"]]}


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal's error stream; what it yields starts the next step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting ...", total=steps)
        begun = False

        def step(text: str) -> None:
            nonlocal begun
            bar.update(task, description=text, advance=int(begun))
            begun = True

        yield step
