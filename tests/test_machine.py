"""What a process finds on its machine: the processor's name, and which directory is this user's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastconv import machine

_CORE = """processor	: {n}
BogoMIPS	: 50.00
Features	: fp asimd
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: {variant}
CPU part	: {part}
CPU revision	: 1

"""

_NEOVERSE = "implementer 0x41, part 0xd0c, variant 0x3, revision 1"
_CORTEX = "implementer 0x41, part 0xd05, variant 0x1, revision 1"


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([("0xd0c", "0x3")] * 4, f"aarch64; {_NEOVERSE}"),
        ([("0xd05", "0x1"), ("0xd05", "0x1"), ("0xd0c", "0x3")], f"aarch64; {_CORTEX}; {_NEOVERSE}"),
        ([], "aarch64"),
    ],
)
def test_arm_processors_are_told_apart(
    cores: list[tuple[str, str]], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(_CORE.format(n=n, part=p, variant=v) for n, (p, v) in enumerate(cores)))
    assert machine.cpu_model(cpuinfo) == expected
    cpuinfo.write_text("processor	: 0\nmodel name	: A Processor\nflags		: fpu\n")
    assert machine.cpu_model(cpuinfo) == "A Processor"
    assert machine.cpu_model(tmp_path / "none") == "aarch64"


def test_a_private_directory_is_made_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    machine.private_directory(path)
    machine.private_directory(path)
    if not hasattr(machine.os, "geteuid"):
        return
    assert path.stat().st_mode & 0o777 == 0o700
    for mode in (0o720, 0o702):
        path.chmod(mode)
        with pytest.raises(PermissionError, match=f"{path} can be written to by others"):
            machine.private_directory(path)
