"""From a spec to a compiled kernel: an ordered search over the backends, each of which may refuse with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from . import tuning
from .arguments import shown
from .backends import ORDER, backend, usable
from .backends.base import Kernel, Spec
from .memo import Memo, forget
from .settings import Settings, changed, of_context, settings
from .spec import ConvSpec

__all__ = ["Choice", "Explanation", "choose", "chooser", "explain", "forget", "recorded"]

_record: ContextVar[list[Choice] | None] = ContextVar("fastconv_explain", default=None)


@dataclass(frozen=True)
class Choice:
    """Which kernel a spec got under which settings, and why: ``refusals`` are the (backend, reason) pairs before it.

    ``tuned`` says how it came out where ``autotune`` measured it; else it is empty. ``ran`` is the algorithm of a call
    that was recorded: arrays that are not contiguous may have another than the kernel's.
    """

    spec: Spec
    settings: Settings
    kernel: Kernel
    refusals: tuple[tuple[str, str], ...] = ()
    tuned: str = ""
    ran: str = ""

    def __str__(self) -> str:
        k = self.kernel
        lines = [f"{self.spec}"]
        lines += [f"  {name}: refused, {reason}" for name, reason in self.refusals]
        lines += [f"  {k.backend}: {k.algorithm} on {k.isa}, workspace {k.workspace_bytes} bytes"]
        lines += [f"    {line}" for line in (self.tuned or k.reason).splitlines()]
        if self.ran not in ("", k.algorithm):
            lines += [f"    arrays that lie in memory as these do: {self.ran}"]
        return "\n".join(lines)


def _refusal(name: str, spec: Spec, given: Settings) -> str | None:
    """Why backend ``name`` does not compute ``spec``, or not by the algorithm that is asked for; None if it does."""
    candidate = backend(name)
    reason = candidate.available() or candidate.refuse(spec, given)
    if reason is None and given.algorithm is not None and isinstance(spec, ConvSpec):
        table = candidate.algorithms(spec, given)
        reason = table.get(given.algorithm, f"it has {', '.join(table)} for this, not {given.algorithm}")
    return reason


def _search(spec: Spec, given: Settings) -> Choice:
    """The choice for ``spec`` where the settings ``given`` hold."""
    tunable = given.tuning != "off" and given.algorithm is None and isinstance(spec, ConvSpec) and not spec.empty
    if tunable and (winner := tuning.winner(spec, given, _candidates)):
        own = given._replace(backend=winner.backend, algorithm=winner.algorithm, tuning="off")
        with suppress(NotImplementedError, RuntimeError, ValueError):
            return replace(_choices[spec, own], settings=given, tuned=str(winner))
    if given.backend is not None:
        chosen = usable(given.backend)
        if reason := _refusal(given.backend, spec, given):
            raise NotImplementedError(f"backend={given.backend!r} does not compute this: {reason}")
        return Choice(spec, given, chosen.compile(spec, given))
    refusals = []
    for name in ORDER:
        reason = _refusal(name, spec, given)
        if reason is None:
            return Choice(spec, given, backend(name).compile(spec, given), tuple(refusals))
        refusals.append((name, reason))
    by = "" if given.algorithm is None else f" by {given.algorithm}"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals)
    raise NotImplementedError(f"no backend computes this{by}: {reasons} ({spec})")


#: Choices by (spec, settings).
_choices = Memo(_search)


def _candidates(spec: ConvSpec, given: Settings) -> list[Kernel]:
    """What can compute ``spec``, the heuristics' choice first; of backends that compile, if there is one."""
    given = given._replace(tuning="off")
    first = _choices[spec, given].kernel
    found = [first]
    for name in ORDER if given.backend is None else (given.backend,):
        if name != "reference" and _refusal(name, spec, given) is None:
            for algorithm, reason in backend(name).algorithms(spec, given).items():
                if reason is None and (name, algorithm) != (first.backend, first.algorithm):
                    found.append(_choices[spec, given._replace(backend=name, algorithm=algorithm)].kernel)
    return found


def chooser(make: Callable[..., Spec]) -> Callable[..., Choice]:
    """``choose(make(...))`` as a function of the positional arguments of ``make``.

    What it finds is remembered, in a bounded cache, by the arguments: next to a small layer, making a spec is slow.
    One look into it is all that a call costs, so the arguments have one form each, in which equal ones mean the same.
    """

    def find(context: Settings | None, args: tuple[Any, ...]) -> Choice:
        spec, given = make(*args), context or settings()
        # Where nothing is to be multiplied there is nothing to be fast at: the reference settles it.
        return _choices[spec, given._replace(backend="reference", algorithm=None) if spec.empty else given]

    found = Memo(find)

    def choose(*args: Any) -> Choice:
        context = of_context()
        try:
            choice = found[context, args]
        except TypeError:
            # Perhaps an argument cannot be looked up. If so it is a wrong one, and ``make`` says which.
            make(*args)
            raise
        if context is not None:  # as it is where choices are recorded
            record = _record.get()
            if record is not None:
                record.append(choice)
        return choice

    return choose


def _given(spec: Spec) -> Spec:
    return spec


choose = chooser(_given)
choose.__doc__ = "The kernel for a spec in this context (found once, then remembered in a bounded cache)."


class Explanation(list[Choice]):
    """What ran during one call, in order; print it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Call ``function(*args, **kwargs)`` and say which backends, algorithms and instruction sets it ran on, and why.

    >>> print(fastconv.explain(fastconv.conv2d, x, w, padding="same"))
    """
    if not callable(function):
        raise TypeError(f"function={shown(function)}: allowed is what can be called, such as fastconv.conv2d")
    with recorded() as record:
        function(*args, **kwargs)
    return record


@contextmanager
def recorded() -> Iterator[Explanation]:
    """The choices that are made within this context (of this thread or task), as they come."""
    record = Explanation()
    with changed():
        token = _record.set(record)
        try:
            yield record
        finally:
            _record.reset(token)
            record[:] = [replace(c, ran=getattr(c.kernel, "ran", c.kernel.algorithm)) for c in record]
