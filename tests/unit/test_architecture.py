"""The layers of the design, held by reading the source: who may import whom, and how long things may grow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "kdump_pkg"


def module_name(path: Path) -> str:
    """`facts.elf` for kdump_pkg/facts/elf.py, `facts` for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


@cache
def nodes(name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(TREES[name]))


@cache
def imports(name: str) -> frozenset[str]:
    return frozenset(_imports(name))


def _imports(name: str) -> Iterator[str]:
    """Absolute names of all that a module imports, wherever in it."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("kdump_pkg.")
                ours = (node.module or "").split(".")[0] == "kdump_pkg"
                yield f"kdump_pkg.{whole}" if ours and whole in SOURCES else node.module or ""


def ours(name: str) -> set[str]:
    return {i.removeprefix("kdump_pkg").removeprefix(".") for i in imports(name) if i.split(".")[0] == "kdump_pkg"}


NOUNS = {"", "crashkernel", "errors", "model", "options", "packages", "parameters", "paths", "untrusted"}
EFFECTS = {"context", "run", "fs", "ui", "keyring"}
TOP = {
    "reconcile", "rehearsal", "setup", "estimate", "crash_test", "dumps", "catalogue", "verification", "vmcore",
    "collect", "reports", "exporting", "debugging", "prompt", "upload", "variant", "debug_kernel", "hook", "__main__",
    "variant_build", "trial",
}  # fmt: skip
READERS = {
    "facts.elf",
    "facts.corefile",
    "facts.debugfiles",
    "facts.ko",
    "facts.initramfs",
    "facts.results",
    "facts.vmlinuz",
    "facts.state",
    "facts.dumps",
    "facts.trace",
    "facts.variant",
}
"""Of the facts, these read files and decide nothing: what is applied is checked by them."""


def layer(name: str) -> str:
    if name.split(".")[0] in NOUNS:
        return "nouns"
    if name in EFFECTS:
        return "effects"
    if name in TOP or name.split(".")[0] == "cli":
        return "top"
    if name in ("render", "cpio") or name.split(".")[0] == "report":
        return "render"
    return name.split(".")[0]


BELOW: dict[str, set[str]] = {
    "nouns": {"nouns"},
    "loaders": {"nouns", "loaders"},
    "crashlog": {"nouns", "crashlog"},
    "debuginfo": {"nouns", "debuginfo"},
    "render": {"nouns", "render"},
    "plan": {"nouns", "render", "loaders", "plan"},
    "effects": {"nouns", "effects"},
    "config": {"nouns", "effects"},
    "facts": {"nouns", "effects", "loaders", "facts"},
    "apply": {"nouns", "effects", "render", "debuginfo", "apply"},
    "top": {
        "nouns",
        "effects",
        "loaders",
        "render",
        "crashlog",
        "debuginfo",
        "plan",
        "config",
        "facts",
        "apply",
        "top",
    },
}


def test_every_module_has_its_layer() -> None:
    assert {layer(name) for name in SOURCES} == set(BELOW)


@pytest.mark.parametrize("name", SOURCES)
def test_imports_go_down_only(name: str) -> None:
    for other in ours(name):
        if layer(name) == "apply" and (other in READERS or (name, other) in APPLY_MORE):
            continue
        assert layer(other) in BELOW[layer(name)], f"{name} ({layer(name)}) imports {other} ({layer(other)})"


# The rehearsal is a little program of its own: its pure half says what to do, its other half does it.
APPLY_MORE = {("apply.scratch", "plan.gpt")}


def test_no_circles() -> None:
    """Also between modules of one layer, which the table can't see."""
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"circle: {' -> '.join((*above, name))}"
        if name not in done:
            for other in sorted(ours(name) - {""}):
                if other in SOURCES and other != name:
                    visit(other, (*above, name))
            done.add(name)

    for name in SOURCES:
        visit(name, ())


IMPURE = {"os", "subprocess", "pathlib", "sys", "shutil", "time", "socket", "tempfile", "threading", "fcntl", "random"}


PURE = ("plan", "loaders", "render", "nouns", "crashlog", "debuginfo")


@pytest.mark.parametrize("name", [n for n in SOURCES if layer(n) in PURE])
def test_pure_modules_reach_nothing(name: str) -> None:
    assert not {i.split(".")[0] for i in imports(name)} & IMPURE
    called = {n.func.id for n in nodes(name) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


ONLY = {
    "pyalpm": {"facts.alpm"},
    "elftools": {"facts.elf"},
    "pefile": {"facts.results"},
    "configobj": {"config"},
    "validate": {"config"},
    "subprocess": {"run", "apply.rehearsal"},  # QEMU is watched while it runs
    "argparse": {"cli", "cli.verb", "cli.machine", "cli.dumps", "cli.variant"},
    "fcntl": {"fs"},
    "ctypes": {"keyring"},
    "drgn": {"vmcore", "prompt"},
    "resource": {"vmcore"},
}


@pytest.mark.parametrize("module", ONLY)
def test_one_place_knows(module: str) -> None:
    users = {name for name in SOURCES if module in {i.split(".")[0] for i in imports(name)}}
    assert users
    assert users <= ONLY[module]


STDLIB = set(sys.stdlib_module_names) | {"kdump_pkg"}


def test_others_modules_are_imported_where_they_are_needed() -> None:
    """At the top of a module they would cost every start, and end it when they are missing."""
    for name, tree in TREES.items():
        for node in tree.body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {n.split(".")[0] for n in names} <= STDLIB, name


def attributes(name: str) -> set[str]:
    return {ast.unparse(n) for n in nodes(name) if isinstance(n, ast.Attribute)}


def test_the_environment_is_read_in_one_place() -> None:
    users = {name for name in SOURCES if {"os.environ", "os.getenv"} & attributes(name)}
    assert users == {"run"}


def test_only_the_entry_point_ends_the_process() -> None:
    for name in SOURCES:
        assert not {"sys.exit", "os._exit", "os.abort"} & attributes(name) or name == "__main__", name


@pytest.mark.parametrize("name", [n for n in SOURCES if layer(n) in ("facts", "apply", "config")])
def test_paths_go_through_the_context(name: str) -> None:
    """A path made from a string by hand would be this machine's, whatever the root."""
    for node in nodes(name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Path" and node.args:
            text = ast.unparse(node.args[0])
            assert not (text.startswith(("'/", 'f"/', "paths."))), f"{name}:{node.lineno}: Path({text})"


LONGEST_FUNCTION, LONGEST_MODULE = 40, 400


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_grows_too_long(name: str) -> None:
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    for node in nodes(name):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name}.{node.name} has {length} lines"


def test_modules_say_what_they_own() -> None:
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


IMPORT_ALL = """
import os, signal, sys, threading
found = []
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        found.append((event, str(args[0])))
    if event.startswith(("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "socket.", "os.mkdir", "os.remove",
                         "os.rename", "os.chdir", "os.putenv", "os.unsetenv", "signal.")):
        found.append((event, str(args)))
sys.path.insert(0, sys.argv[1])
mask, handlers, environment = os.umask(0o77), [signal.getsignal(s) for s in (2, 13, 15)], dict(os.environ)
sys.addaudithook(hook)
for name in sys.argv[2:]:
    __import__(name)
assert os.umask(mask) == 0o77
assert [signal.getsignal(s) for s in (2, 13, 15)] == handlers
assert dict(os.environ) == environment
assert threading.active_count() == 1
assert "logging" not in sys.modules or not sys.modules["logging"].getLogger().handlers
print(*found)
"""


@pytest.mark.spawns
def test_importing_has_no_effects() -> None:
    names = [f"kdump_pkg.{name}".rstrip(".") for name in SOURCES]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", IMPORT_ALL, os.fspath(REPO), *names],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
