"""The package as it is installed, and what its README promises."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

import pytest

import fastconv
from fastconv import spec
from fastconv.backends import ORDER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
INSTALLED = Path(fastconv.__file__).parent.parent == Path(sysconfig.get_path("platlib"))


def _examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_example_of_the_readme_prints_what_it_says() -> None:
    example = _examples()[0]
    promised = re.findall(r"^print\(.*?\) +# (.*)$", example, flags=re.MULTILINE)
    assert len(promised) == example.count("print(") == 3
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(example, {})
    assert printed.getvalue().splitlines() == promised


def test_every_example_of_the_readme_runs() -> None:
    backends = fastconv.backends()
    names: dict[str, object] = {}
    with redirect_stdout(io.StringIO()):
        for example in _examples():
            for name, reason in backends.items():
                if reason is not None:
                    example = re.sub(rf".*use_backend\(\"{name}\"\).*\n", "", example)
                    example = re.sub(r".*use_isa.*\n", "", example) if name == "c" else example
            exec(example, names)


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("csrc/*.md"), *ROOT.glob("benchmarks/*.md")]
    assert ROOT / "README.md" in documents
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize("command", ['pip install ".[demo]" && fastconv demo', 'pip install ".[test]" && pytest'])
def test_the_check_of_everything_runs_the_commands_of_the_readme(command: str) -> None:
    assert f"`{command}`" in README
    assert re.search(rf"^\s*{re.escape(command)}", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_readme_names_every_backend_and_activation() -> None:
    missing = [name for name in (*ORDER, *spec.ACTIVATIONS) if f"`{name}`" not in README]
    assert set(missing) <= {"cuda", "identity"}


@pytest.mark.skipif(not INSTALLED, reason="fastconv is imported from its sources")
class TestInstalled:
    def test_version(self) -> None:
        assert metadata.version("fastconv") == fastconv.__version__

    def test_nothing_but_the_package_is_installed(self) -> None:
        files = [str(f) for f in metadata.files("fastconv") or [] if "__pycache__" not in str(f)]
        outside = [f for f in files if not re.match(r"fastconv(-[^/]*\.dist-info)?/", f)]
        assert [Path(f).stem for f in outside] == ["fastconv"], "the command alone lies elsewhere"
        inside = {Path(f).suffix for f in files if f.startswith("fastconv/")}
        assert inside <= {".py", ".typed", ".so", ".csv", ".def", ".h"}
        assert "fastconv/py.typed" in files
        assert any(f.startswith("fastconv/_c.abi3.") for f in files)

    def test_the_command(self) -> None:
        command = Path(sysconfig.get_path("scripts")) / "fastconv"
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"fastconv {fastconv.__version__}\n"

    def test_the_extension_keeps_to_the_stable_interface_of_python(self) -> None:
        tags = metadata.distribution("fastconv").read_text("WHEEL") or ""
        assert "cp311-abi3" in tags


def test_running_the_module_is_running_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "fastconv", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fastconv {fastconv.__version__}\n"
