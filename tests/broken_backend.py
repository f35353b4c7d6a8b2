"""Imported by the processes of ``test_check.py``: the first backend's pooling goes wrong in four ways."""

import os

from fastconv import testing
from fastconv.backends import backend
from fastconv.spec import PoolSpec

_backend = backend(testing.backends_here()[0])
_compile = type(_backend).compile


def _broken(self, spec, settings):
    kernel = _compile(self, spec, settings)
    if not isinstance(spec, PoolSpec):
        return kernel

    class Broken:
        backend, isa, algorithm, reason = kernel.backend, kernel.isa, kernel.algorithm, kernel.reason
        workspace_bytes = 0

        def __call__(self, x, out, indices):
            kernel(x, out, indices)
            if spec.kind == "sum" and spec.out_size[-1] > 4:
                out[..., -1] += 1
            elif spec.kind == "max" and spec.c > 2:
                os.abort()
            elif spec.kind == "avg" and spec.adaptive:
                while True:
                    pass
            elif spec.kind == "avg":
                x.flags.writeable = True
                x[...] = 0

    return Broken()


type(_backend).compile = _broken
