"""hooks/alpm: the hook files, for a malformed one aborts every transaction, and the shim that starts Python."""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import REPO, SHELLS

HOOKS = sorted((REPO / "hooks/alpm").glob("*.hook"))
SCRIPT = "/usr/share/libalpm/scripts/kdump-pkg"
KEYS = {
    "Trigger": {"Operation", "Type", "Target"},
    "Action": {"Description", "When", "Exec", "Depends", "AbortOnFail", "NeedsTargets"},
}
REMEDY = "what is armed stays armed, then do: kdump-pkg rebuild"


def sections(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """A hook file as libalpm reads it: sections may repeat, and so may keys."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in path.read_text().splitlines():
        if line.startswith("["):
            found.append((line.strip("[]"), []))
        elif line and not line.startswith("#"):
            key, _, value = (part.strip() for part in line.partition("="))
            found[-1][1].append((key, value))
    return found


def triggers(name: str, kind: str, target: str) -> bool:
    """Does libalpm run the hook for this path or package?"""
    return any(
        section == "Trigger" and ("Type", kind) in pairs and any(
            key == "Target" and fnmatchcase(target, pattern) for key, pattern in pairs
        )
        for section, pairs in sections(REPO / "hooks/alpm" / f"{name}.hook")
    )  # fmt: skip


def test_names_give_the_order() -> None:
    assert [hook.stem for hook in HOOKS] == ["60-kdump-pkg-remove", "89-kdump-pkg-preset", "95-kdump-pkg"]
    assert HOOKS[1].stem < "90-mkinitcpio-install" < HOOKS[2].stem < "99-sign" < "zz-sbctl"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.stem)
def test_every_line_is_one_that_libalpm_knows(hook: Path) -> None:
    assert not hook.is_symlink()
    names = [name for name, _ in sections(hook)]
    assert names.count("Action") == 1 and "Trigger" in names
    for name, pairs in sections(hook):
        keys = [key for key, _ in pairs]
        assert set(keys) <= KEYS[name]
        if name == "Trigger":
            assert keys.count("Type") == 1 and "Operation" in keys and "Target" in keys
            assert {value for key, value in pairs if key == "Operation"} <= {"Install", "Upgrade", "Remove"}
            assert not any(value.startswith("/") for key, value in pairs if key == "Target")
        else:
            assert "AbortOnFail" not in keys, "a hook of ours never blocks a transaction"
            assert dict(pairs)["Exec"].split()[0] == SCRIPT


@pytest.mark.parametrize(
    ("name", "when", "verb"),
    [
        ("60-kdump-pkg-remove", "PreTransaction", "remove"),
        ("89-kdump-pkg-preset", "PostTransaction", "preset"),
        ("95-kdump-pkg", "PostTransaction", "rebuild"),
    ],
)
def test_what_runs_when(name: str, when: str, verb: str) -> None:
    (action,) = [dict(pairs) for section, pairs in sections(REPO / f"hooks/alpm/{name}.hook") if section == "Action"]
    assert (action["When"], action["Exec"]) == (when, f"{SCRIPT} {verb}")
    assert "NeedsTargets" in action


@pytest.mark.parametrize("name", ["89-kdump-pkg-preset", "95-kdump-pkg"])
def test_what_fires_it(name: str) -> None:
    assert triggers(name, "Path", "usr/lib/modules/6.12.1-arch1-1/vmlinuz")
    assert not triggers(name, "Path", "usr/lib/modules/6.12.1-arch1-1/kernel/fs/ext4/ext4.ko.zst")
    for package in ("kdump-pkg", "makedumpfile", "kexec-tools", "mkinitcpio", "busybox", "dracut", "systemd",
                    "cryptsetup", "lvm2", "mdadm", "btrfs-progs", "age"):  # fmt: skip
        assert triggers(name, "Package", package)
    assert not triggers(name, "Package", "bash")


def test_headers_bring_a_vmlinux() -> None:
    assert triggers("95-kdump-pkg", "Path", "usr/lib/modules/6.12.1-arch1-1/build/vmlinux")


class Shim:
    """The shim with its two absolute paths pointing into a directory of the test."""

    def __init__(self, top: Path, shell: list[str]) -> None:
        self.top = top
        self._shell = shell
        self.code = top / "lib"
        self.code.mkdir()
        self.python = Path(sys.executable)
        self.main("print('hook', *__import__('sys').argv[1:])")

    def main(self, source: str) -> None:
        (self.code / "__main__.py").write_text(source)

    def run(self, *, stdin: str = "linux\n", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        text = (REPO / "hooks/alpm/kdump-pkg").read_text()
        text = text.replace("/usr/lib/kdump-pkg", str(self.code)).replace("/usr/bin/python3", str(self.python))
        script = self.top / "kdump-pkg"
        script.write_text(text)
        return subprocess.run(
            [*self._shell, str(script), "rebuild"],
            input=stdin, capture_output=True, text=True, timeout=30, env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip


@pytest.fixture(params=SHELLS)
def shim(request: pytest.FixtureRequest, tmp_path: Path) -> Shim:
    need(SHELLS[request.param][0])
    return Shim(tmp_path, SHELLS[request.param])


def test_starts_python_with_the_verb(shim: Shim) -> None:
    done = shim.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "hook hook rebuild\n", "")


def test_targets_reach_python(shim: Shim) -> None:
    shim.main("import os\nprint(os.read(0, 4096).decode().split())")
    assert shim.run(stdin="linux\nlinux-lts\n").stdout == "['linux', 'linux-lts']\n"


def test_quiet_when_our_code_is_gone(shim: Shim) -> None:
    (shim.code / "__main__.py").unlink()
    done = shim.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_callers_environment_does_not_count(shim: Shim) -> None:
    shim.main("import os, locale\nprint(sorted(set(os.environ) - {'LC_CTYPE'}))\nprint(locale.getpreferredencoding())")
    done = shim.run(env={"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "LANG": "de_DE", "LC_ALL": "xx"})
    assert done.stdout == "['HOME', 'LC_ALL', 'PATH']\nUTF-8\n"
    assert not list(shim.code.rglob("__pycache__"))


def test_a_failure_it_explained_itself_is_passed_on(shim: Shim) -> None:
    shim.main("import sys\nprint('working')\nprint('==> ERROR: no room', file=sys.stderr)\nsys.exit(1)")
    done = shim.run()
    assert (done.returncode, done.stdout, done.stderr) == (1, "working\n", "==> ERROR: no room\n")


def test_a_vanished_module_is_one_line(shim: Shim) -> None:
    shim.main("import configobj_of_another_python")
    done = shim.run()
    why = "ModuleNotFoundError: No module named 'configobj_of_another_python'"
    assert done.stderr == f"==> ERROR: kdump-pkg did not run ({why}); {REMEDY}\n"
    assert done.returncode == 1


def test_a_missing_python_is_one_line(shim: Shim) -> None:
    shim.python = shim.top / "python3"
    done = shim.run()
    assert done.returncode == 1
    assert done.stderr.startswith("==> ERROR: kdump-pkg did not run (") and done.stderr.endswith(f"; {REMEDY}\n")
    assert done.stderr.count("\n") == 1


def test_a_python_that_dies_is_one_line(shim: Shim) -> None:
    shim.main("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    done = shim.run()
    assert done.returncode == 1
    assert f"({shim.python} ended with status 139); {REMEDY}\n" in done.stderr
