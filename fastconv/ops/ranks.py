"""Operators are written once, the number of spatial dimensions their first parameter. Here their functions are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["Ranks", "of_ranks"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

#: Of one, two and three dimensions.
Ranks = tuple[_T, _T, _T]

#: Words of the docstrings: sizes of the input, the output and the filters, and the layouts.
_WORDS = {
    1: {"s": "iw", "o": "ow", "k": "kw", "ones": "1", "layouts": '``"NCL"`` or ``"NLC"``'},
    2: {"s": "ih, iw", "o": "oh, ow", "k": "kh, kw", "ones": "1, 1", "layouts": '``"NCHW"`` or ``"NHWC"``'},
    3: {
        "s": "id, ih, iw", "o": "od, oh, ow", "k": "kd, kh, kw", "ones": "1, 1, 1",
        "layouts": '``"NCDHW"`` or ``"NDHWC"``',
    },
}  # fmt: skip


def of_ranks(operator: Callable[Concatenate[int, _P], _R], **texts: str) -> Ranks[Callable[_P, _R]]:
    """``operator(ndim, ...)`` as three functions without that parameter, for ``ndim`` 1, 2 and 3.

    They are called ``conv1d``, ``conv2d_backward`` where the operator is called ``conv``, ``conv_backward``. In its
    docstring, names in braces stand for words of the rank and for ``texts``, in which they may stand as well.
    """
    source: Any = operator
    bound = _binder(source)
    stem, backward, which = source.__name__.partition("_backward")
    functions = []
    for ndim, words in _WORDS.items():
        name = f"{stem}{ndim}d{backward}{which}"
        function = bound(source, ndim)
        function.__code__ = function.__code__.replace(
            co_name=name,
            co_qualname=name,
            co_filename=source.__code__.co_filename,
            co_firstlineno=source.__code__.co_firstlineno,
        )
        function.__name__ = function.__qualname__ = name
        function.__defaults__, function.__kwdefaults__ = source.__defaults__, source.__kwdefaults__
        function.__annotations__ = {of: kind for of, kind in source.__annotations__.items() if of != "ndim"}
        words = {"n": str(ndim), "f": f"{stem}{ndim}d", **words}
        filled = {key: text.format(**words) for key, text in texts.items()}
        function.__doc__ = source.__doc__.format(**words, **filled)
        functions.append(function)
    one, two, three = functions
    return one, two, three


def _binder(operator: Any) -> Callable[..., Any]:
    """``lambda operator, ndim: lambda x, ..., *, out: operator(ndim, x, ..., out=out)``, of the operator's parameters.

    Written out, because what takes ``*args, **kwargs`` costs a small layer a tenth more, and because it is a function
    like any other for ``help``, ``inspect``, ``pickle`` and error messages. Tracebacks show the operator's line.
    """
    code = operator.__code__
    positional, every = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names, keywords = code.co_varnames[:positional], code.co_varnames[positional:every]
    taken = ", ".join([*names[1:], *(["*", *keywords] if keywords else [])])
    passed = ", ".join([*names, *(f"{name}={name}" for name in keywords)])
    return eval(f"lambda operator, ndim: lambda {taken}: operator({passed})", operator.__globals__)
