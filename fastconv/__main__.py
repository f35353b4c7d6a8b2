"""The command line: ``fastconv info``, ``fastconv demo``, ``fastconv check``, ``fastconv bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ._options import at_least
from ._version import __version__
from .bench import HELP

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 if all went well, 1 if a check failed, 2 if it could not start."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(given[:1]).parse_args(given)
    return arguments.run(arguments)


def _parser(asked: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of every command; those with many options and imports are only named unless they are asked for."""
    parser = argparse.ArgumentParser(
        prog="fastconv", description="Convolution, pooling and GEMM on NumPy arrays, with compiled kernels."
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    info = commands.add_parser("info", help="versions, processor, instruction sets, backends, threads")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)

    demo = commands.add_parser(
        "demo", help="filter photographs, learn digits, compare the backends (pip install 'fastconv[demo]')"
    )
    demo.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="where files go (default: %(default)s)"
    )
    demo.add_argument(
        "--seed", type=at_least(0), default=0, help="of splits, weights and batches (default: %(default)s)"
    )
    demo.add_argument("--epochs", type=at_least(1), help="of the training (default: as many as 98 %% accuracy needs)")
    demo.set_defaults(run=_demo)

    check = commands.add_parser("check", help="random calls on every backend, compared with the reference")
    if "check" in asked:
        from .testing.check import add_to

        add_to(check)
    if "bench" in asked:
        from .bench import cli as bench

        bench.add_to(commands)
    else:
        commands.add_parser("bench", help=HELP)
    return parser


def _info(arguments: argparse.Namespace) -> int:
    from . import info

    found = info.gather()
    print(info.render(found, as_json=arguments.json))
    return 1 if found["problems"] else 0


def _demo(arguments: argparse.Namespace) -> int:
    from . import demo

    try:
        failures = demo.run(arguments.output, arguments.seed, arguments.epochs)
    except demo.Unusable as error:
        print(f"fastconv demo: {error}", file=sys.stderr)
        return 2
    for failure in failures:
        print(f"fastconv demo: failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
