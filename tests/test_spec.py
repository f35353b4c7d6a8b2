"""The types of a problem, as its description carries them."""

from __future__ import annotations

import copy
import pickle

import pytest

from fastconv.spec import DTYPES, INTEGERS, TYPES, GemmSpec, Types, adaptive_pool_spec, conv_spec, conv_transpose_spec
from fastconv.spec import pool_spec as pooling

MIXED = Types("uint8", "int8", "int32", "float32")


def test_types_are_values() -> None:
    for types in (MIXED, *map(Types.of, TYPES)):
        for again in (eval(repr(types)), pickle.loads(pickle.dumps(types)), copy.deepcopy(types)):
            assert again == types
            assert hash(again) == hash(types)
    assert Types.of("float32") is Types.of("float32") != Types.of("float64")
    assert Types.of("float32").alike
    assert not any(
        Types(*names).alike for names in (["float32"] * i + ["float16"] + ["float32"] * (3 - i) for i in range(4))
    )
    assert (str(MIXED), str(Types.of("bfloat16"))) == ("x uint8, w int8, sums int32, y float32", "bfloat16")


@pytest.mark.parametrize("name", ["x", "w", "acc", "y"])
def test_a_type_that_there_is_not_is_named(name: str) -> None:
    for wrong in ("float8", "", None, 4, float):
        names = dict.fromkeys(("x", "w", "acc", "y"), "float32") | {name: wrong}
        with pytest.raises(TypeError, match=rf"^{name}=.*: allowed is float16, bfloat16, float32, .*, uint64$"):
            Types(**names)


def test_specs_have_the_types_that_they_are_made_with() -> None:
    shapes = (1, 2, 5, 5), (4, 2, 3, 3)
    for types in (MIXED, Types.of("float16")):
        assert conv_spec("fwd", *shapes, types).types is types
        assert conv_transpose_spec((1, 4, 5, 5), shapes[1], types).types is types
        assert pooling("avg", "fwd", shapes[0], types, 2, 2).types is types
        assert adaptive_pool_spec("max", "bwd", shapes[0], types, 2, 1).types is types
        assert conv_spec("fwd", *shapes, types) != conv_spec("fwd", *shapes, "float32")
    for name in DTYPES:
        assert conv_spec("fwd", *shapes, name) == conv_spec("fwd", *shapes, Types.of(name))
        assert GemmSpec(Types.of(name), 1, 2, 3, 4).dtype == name
    with pytest.raises(TypeError, match="a problem of x uint8, w int8, sums int32, y float32 has no single dtype"):
        _ = GemmSpec(MIXED, 1, 2, 3, 4).dtype


@pytest.mark.parametrize("name", ["float16", *INTEGERS])
def test_a_dtype_alone_is_one_that_the_public_functions_take(name: str) -> None:
    shape = (1, 2, 5, 5)
    for make in (
        lambda: conv_spec("fwd", shape, (4, 2, 3, 3), name),
        lambda: conv_transpose_spec(shape, (2, 4, 3, 3), name),
        lambda: pooling("avg", "fwd", shape, name, 2, 2),
        lambda: adaptive_pool_spec("max", "bwd", shape, name, 2, 1),
    ):
        with pytest.raises(TypeError, match=f"dtype {name}: allowed is float32 or float64"):
            make()
    if name in INTEGERS:
        assert pooling("max", "fwd", shape, name, 2, 2).types == Types.of(name)
