"""The demo: its files, its exit codes, its words when it cannot start."""

import io
from contextlib import redirect_stderr, redirect_stdout
from itertools import count

import numpy as np
import pytest
from PIL import Image

from fastconv import demo, nn, settings
from fastconv.__main__ import main
from fastconv.backends import backends
from fastconv.demo import comparison, digits, photos, story

PICTURES = {
    "china.png": (1320, 888),
    "flower.png": (1320, 888),
    "learning.png": (1200, 504),
    "confusion.png": (840, 768),
    "filters.png": (1320, 708),
    "features.png": (1560, 708),
}


def run(*arguments):
    """Exit code, standard output, standard error of ``fastconv demo``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["demo", *map(str, arguments)])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """A demo that trains too little, and its directory."""
    output = tmp_path_factory.mktemp("demo") / "new" / "directory"
    return output, *run("--output", output, "--epochs", 1, "--seed", 3)


def test_too_little_training_is_a_failure(one_epoch):
    _, code, _, err = one_epoch
    assert code == 1
    assert err.splitlines()[-1].startswith("fastconv demo: failed: accuracy is ")
    assert err.count("failed") == 1


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(one_epoch, name):
    with Image.open(one_epoch[0] / name) as picture:
        assert picture.format == "PNG"
        # Within a tick label or two, as fonts differ.
        np.testing.assert_allclose(picture.size, PICTURES[name], atol=2)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 30


def test_weights_can_be_loaded(one_epoch):
    output, _, out, _ = one_epoch
    net = digits.network()
    net.load(output / "lenet.safetensors")
    x, t = digits.load(3).test
    correct = int((nn.predict(net, x).argmax(1) == t).sum())
    assert f"held-out quarter: {correct} of 450 correct" in out
    assert "weights loaded into a new network: the same predictions, bit by bit" in out


def test_output_lists_files_and_backends(one_epoch):
    output, _, out, _ = one_epoch
    for name in (*PICTURES, "lenet.safetensors"):
        assert f"wrote {output / name}\n" in out
    assert sorted(path.name for path in output.iterdir()) == sorted([*PICTURES, "lenet.safetensors"])
    for name, reason in backends().items():
        assert f"│ {name} " in out if reason is None else f"{name} cannot run here: {reason}\n" in out
    for stage in ("300x300 photo", "train 64 digits", "read 450 digits"):
        assert stage in out


def test_the_default_training_reaches_the_required_accuracy():
    split = digits.load(0)
    net, history = digits.train(split, 0, digits.EPOCHS)
    measured = nn.evaluate(net, *split.test)
    assert measured["accuracy"] >= demo.digits.REQUIRED_ACCURACY
    assert len(history.loss) == len(history.val_loss) == digits.EPOCHS
    assert history.val_loss[-1] < 0.1 * history.val_loss[0]


def test_splits_share_no_image_and_are_stratified():
    split = digits.load(1)
    assert [len(t) for _, t in split] == [1144, 203, 450]
    assert sum(len(t) for _, t in split) == 1797
    for _, t in split:
        shares = np.bincount(t, minlength=10) / len(t)
        assert abs(shares - 0.1).max() < 0.01
    again = digits.load(1)
    for (x, _), (same, _) in zip(split, again, strict=True):
        np.testing.assert_array_equal(x, same)
        assert x.dtype == np.float32
        assert x.shape[1:] == digits.INPUT_SHAPE
        assert (x.min(), x.max()) == (0, 1)


def test_shifts_move_by_one_pixel_at_most():
    x = np.zeros((200, 1, 8, 8), np.float32)
    x[:, 0, 0, 4] = 1
    moved = digits.shifted(x, np.random.default_rng(0))
    assert moved.shape == x.shape
    places = {tuple(map(int, where)) for image in moved for where in np.argwhere(image[0])}
    assert places == {(row, column) for row in (0, 1) for column in (3, 4, 5)}
    assert (moved.sum((1, 2, 3)) == 0).any()  # moved out at the top
    assert 0.4 < (moved == x).all((1, 2, 3)).mean() < 0.7


def test_edges_of_a_constant_image_are_zero_inside():
    flat = np.full((1, 300, 300, 1), 0.75, np.float32)
    edges = photos.filtered(flat, photos.EDGES)
    assert edges.shape == flat.shape
    assert (edges[:, 1:-1, 1:-1] == 0).all()
    # At a border three of nine neighbours are missing, at a corner five.
    np.testing.assert_array_equal(edges[0, [0, 0], [150, 0], 0], np.float32([0.75 * 3, 0.75 * 5]))
    np.testing.assert_array_equal(photos.filtered(flat, photos.SHARPEN)[:, 1:-1, 1:-1], flat[:, 1:-1, 1:-1])
    assert photos.pooled(edges).shape == (1, 150, 150, 1)


def test_photographs_are_gray_squares():
    gallery = photos.load()
    assert [photo.name for photo in gallery] == ["china", "flower"]
    for photo in gallery:
        assert photo.original.shape == (427, 640, 3)
        assert photo.gray.shape == (1, 300, 300, 1)
        assert 0 <= photo.gray.min() < 0.2 < 0.8 < photo.gray.max() <= 1


# ------------------------------------------------------------------------------------------------ failures


@pytest.fixture
def short(monkeypatch):
    """The demo without its training and comparison."""
    monkeypatch.setattr(story, "_learn", lambda *_: [])
    monkeypatch.setattr(comparison, "compare", lambda *_: [])


def test_success_is_exit_code_zero(short, tmp_path):
    code, _, err = run("--output", tmp_path)
    assert (code, err) == (0, "")


def test_a_difference_over_tolerance_is_a_failure(short, tmp_path, monkeypatch):
    lines = [
        comparison.Line("stage", "numba", 1e-4, 1.0, 1.0, 2e-4),
        comparison.Line("stage", "c", 1e-4, difference=1e-5),
    ]
    monkeypatch.setattr(comparison, "compare", lambda *_: lines)
    code, _, err = run("--output", tmp_path)
    assert code == 1
    assert err == "fastconv demo: failed: stage on numba: 2.0e-04 from the reference, allowed is 1e-04\n"


def test_a_backend_that_computes_something_else_is_noticed(monkeypatch):
    x, t = digits.load(0).test
    real, calls = photos.conv2d, count()

    # The first call is the reference's; every later one is off by a tenth of a percent and more.
    def wrong(*arguments, **options):
        return real(*arguments, **options) * np.float32(1 + 1e-3 * next(calls))

    monkeypatch.setattr(photos, "conv2d", wrong)
    monkeypatch.setattr(comparison, "ENOUGH_SECONDS", 0)
    lines = comparison.compare(photos.load()[0], x[:4], t[:4], 0)
    assert {line.passed for line in lines if line.stage.endswith("photo")} == {False}
    assert {line.passed for line in lines if not line.stage.endswith("photo")} == {True}


def test_weights_that_do_not_come_back_are_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Module, "load", lambda self, path: None)
    failures = story._learn(story.Console(file=io.StringIO()), tmp_path, digits.load(0), 0, 1)
    assert f"the weights in {tmp_path / 'lenet.safetensors'} do not predict the same" in failures


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name in ("sklearn", "rich") else name)
    code, out, err = run("--output", tmp_path / "output")
    assert (code, out) == (2, "")
    assert err == (
        'fastconv demo: missing packages: scikit-learn, rich; install them with: pip install "fastconv[demo]"\n'
    )
    assert not (tmp_path / "output").exists()


def test_an_output_that_is_a_file_or_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        code, out, err = run("--output", output)
        assert (code, out) == (2, "")
        assert err.startswith(f"fastconv demo: cannot write into the output directory {str(output)!r}: ")
        assert len(err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_that_is_read_only(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(demo.tempfile, "TemporaryFile", refuse)
    code, _, err = run("--output", tmp_path)
    assert code == 2
    assert err.endswith(f"{str(tmp_path)!r}: Permission denied\n")


def test_an_environment_that_forces_the_impossible(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_of_environment", settings._of_environment.__wrapped__)
    monkeypatch.setenv("FASTCONV_BACKEND", "abacus")
    code, _, err = run("--output", tmp_path / "output")
    assert code == 2
    assert err.startswith("fastconv demo: FASTCONV_BACKEND='abacus': allowed is ")
    assert not (tmp_path / "output").exists()
