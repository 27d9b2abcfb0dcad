"""Linters are tests. A missing one is skipped on a developer's machine, and an error in CI, where all are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdump_pkg.hook import VERBS

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.spawns


def tool(name: str) -> str:
    """The linter beside our Python, or in PATH."""
    found = shutil.which(name, path=os.fspath(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing")
        pytest.skip(f"{name} is missing: not checked")
    return found


def clean(*argv: str) -> None:
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_ruff_check() -> None:
    clean(tool("ruff"), "check", "--no-cache", ".")


def test_ruff_format() -> None:
    clean(tool("ruff"), "format", "--no-cache", "--check", ".")


def test_mypy() -> None:
    clean(tool("mypy"), "--strict")


# --- shell ----------------------------------------------------------------------------------------------------------

BASH = ("kdump-pkg.install", "shell/kdump-pkg.bash", "linux-kdump/source.sh", "linux-kdump/settings")
SHEBANG = re.compile(rb"#!\s*/(?:usr/)?bin/(?:env )?(sh|bash|ash|dash)\b")


def shell_files() -> dict[str, str]:
    """Shell scripts by what they are, not by where they lie: file to dialect."""
    found: dict[str, str] = {}
    for path in sorted(REPO.rglob("*")):
        name = path.relative_to(REPO).as_posix()
        if not path.is_file() or (name.startswith((".", "pkg/", "src/", "build/")) and name != ".ci/run"):
            continue
        first = SHEBANG.match(path.read_bytes()[:64])
        if first:
            found[name] = {"ash": "dash"}.get(first[1].decode(), first[1].decode())  # older shellchecks know no ash
        elif path.name == "PKGBUILD" or name in BASH or name.startswith("install/"):
            found[name] = "bash"
    return found


SHELL = shell_files()
# PKGBUILD and .install define variables for makepkg and pacman; makepkg sets others.
EXCLUDED = {"PKGBUILD": "SC2034,SC2154,SC2164,SC2100"}


def test_there_are_shell_files() -> None:
    assert {"hooks/kdump-save", "hooks/kdump-init", "install/kdump", "hooks/alpm/kdump-pkg", "kdump-pkg"} <= set(SHELL)
    assert {f"linux-kdump/{name}" for name in ("PKGBUILD", "source.sh", "settings", "configure")} <= set(SHELL)


@pytest.mark.parametrize("name", SHELL)
def test_shellcheck(name: str) -> None:
    kind = Path(name).name
    extra = [f"--exclude={EXCLUDED[kind]}"] if kind in EXCLUDED else []
    clean(tool("shellcheck"), f"--shell={SHELL[name]}", "--external-sources", *extra, name)


@pytest.mark.parametrize("name", [n for n, dialect in SHELL.items() if dialect in ("sh", "dash")])
@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_parses(name: str, shell: str) -> None:
    clean(*([tool("busybox"), "ash"] if shell == "busybox" else [tool("dash")]), "-n", name)


# --- pacman's hooks -------------------------------------------------------------------------------------------------

HOOKS = sorted((REPO / "hooks/alpm").glob("*.hook"))
ALLOWED: dict[str, dict[str, str | None]] = {
    "Trigger": {
        "Operation": r"Install|Upgrade|Remove",
        "Type": r"Path|Package",
        "Target": r"!?[^/\s]\S*",  # no slash at the beginning: paths in the database have none
    },
    "Action": {
        "Description": r"\S.*",
        "When": r"PreTransaction|PostTransaction",
        "Exec": r"/\S+( \S+)*",  # execv, not a shell: absolute
        "Depends": r"\S+",
        "NeedsTargets": None,
    },
}
REPEATED = {"Operation", "Target", "Depends"}


def sections(path: Path) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """As libalpm reads them: a malformed file would stop every transaction of the machine."""
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    for line in path.read_text(encoding="ascii").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            assert text.endswith("]")
            found.append((text[1:-1], []))
            continue
        key, equals, value = text.partition("=")
        assert found, f"{path.name}: {text} stands before any section"
        found[-1][1].append((key.strip(), value.strip() if equals else None))
    return found


def test_hooks_are_the_three() -> None:
    assert [p.name for p in HOOKS] == ["60-kdump-pkg-remove.hook", "89-kdump-pkg-preset.hook", "95-kdump-pkg.hook"]


@pytest.mark.parametrize("path", HOOKS, ids=lambda p: p.name)
def test_hook_is_well_formed(path: Path) -> None:
    assert not path.is_symlink()  # a dangling one stops every transaction, too
    found = sections(path)
    assert [name for name, _ in found].count("Action") == 1
    assert [name for name, _ in found].count("Trigger") >= 1
    for section, entries in found:
        assert section in ALLOWED
        keys = [key for key, _ in entries]
        assert {k for k in keys if keys.count(k) > 1} <= REPEATED
        assert set(keys) >= ({"Operation", "Type", "Target"} if section == "Trigger" else {"When", "Exec"})
        for key, value in entries:
            assert key != "AbortOnFail"
            assert key in ALLOWED[section], f"{key} in [{section}]"
            pattern = ALLOWED[section][key]
            if pattern is None:
                assert value is None, f"{key} takes no value"
            else:
                assert re.fullmatch(pattern, value or ""), f"{key} = {value}"


@pytest.mark.parametrize("path", HOOKS, ids=lambda p: p.name)
def test_hook_starts_our_shim(path: Path) -> None:
    action = dict(next(entries for name, entries in sections(path) if name == "Action"))
    program, verb = (action["Exec"] or "").split()
    assert program == "/usr/share/libalpm/scripts/kdump-pkg"
    assert verb in VERBS
    assert "NeedsTargets" in action
    assert (action["When"] == "PreTransaction") == (verb == "remove")


def test_kernels_trigger_both() -> None:
    """An upgrade is an installation of one path and a removal of another; only a reinstallation is an upgrade."""
    for path in HOOKS[1:]:
        triggers = [dict_of(entries) for name, entries in sections(path) if name == "Trigger"]
        kernels = next(t for t in triggers if "Path" in t["Type"])
        assert kernels["Operation"] == {"Install", "Upgrade", "Remove"}
        assert "usr/lib/modules/*/vmlinuz" in kernels["Target"]
        packages = next(t for t in triggers if "Package" in t["Type"])
        assert {"kdump-pkg", "makedumpfile", "kexec-tools", "mkinitcpio", "dracut", "systemd"} <= packages["Target"]


def dict_of(entries: list[tuple[str, str | None]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, value in entries:
        found.setdefault(key, set()).add(value or "")
    return found
