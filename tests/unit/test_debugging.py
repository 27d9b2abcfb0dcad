"""The verb `debug`: what it refuses, what it finds, what it starts and how."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdump_pkg import catalogue, cli, debugging, prompt
from kdump_pkg.context import Context
from kdump_pkg.debugging import Wish, debug
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import debugfiles
from kdump_pkg.facts.debuggers import read_debuggers
from kdump_pkg.model.dumps import Entry
from kdump_pkg.run import Result, interact
from tests.fakes import Call, FakeRunner, bzimage, elf, make_tree, pacman_db
from tests.vmcores import BUILD_ID, INFO, RELEASE, Kdump, elf_core

ID = f"2026-11-23T07-46-54Z-{RELEASE}"
HOME = f"/var/crash/{ID}"
META = f"format=1\nrelease={RELEASE}\nbuild_id={BUILD_ID}\ncrash_time=1795420014\nresult=complete\n"
DEBUG = f"/usr/lib/debug/lib/modules/{RELEASE}"
OTHER = "ab" * 20
NOTHING = Wish(None, (), force=False, prepare=False)
BT = replace(NOTHING, commands=("bt",))
FORCED = replace(BT, force=True)
MOD = """     MODULE       NAME           TEXT_BASE         SIZE  OBJECT FILE
ffffffffc02115c0  virtio_blk  ffffffffc020d000    32768  (not loaded)  [CONFIG_KALLSYMS]
ffffffffc04e6800  dm_mod      ffffffffc04ce000   221184  (not loaded)  [CONFIG_KALLSYMS]
"""


@pytest.fixture
def opened(ctx: Context) -> Context:
    """One whole dump, a kernel with DWARF for it, crash and drgn."""
    make_tree(ctx.root, {
        **pacman_db({"crash": ("9.0.2-1", []), "drgn": ("0.3.0-1", [])}),
        f"{HOME}/meta": META, f"{HOME}/vmcore": Kdump().build(), f"{HOME}/dmesg.txt": "x\n",
        f"{DEBUG}/vmlinux": elf(BUILD_ID, [".debug_info"]),
    })  # fmt: skip
    runner = ctx.runner
    assert isinstance(runner, FakeRunner)
    runner.answers |= {"crash": "", "drgn": ""}
    return ctx


def started(ctx: Context) -> Call:
    """The last program, which is the debugger."""
    runner = ctx.runner
    assert isinstance(runner, FakeRunner)
    return runner.calls[-1]


def request(call: Call) -> dict[str, Any]:
    found = json.loads(call.argv[-1])
    assert isinstance(found, dict)
    return found


def path(ctx: Context, name: str) -> str:
    return str(ctx.path(name))


# --- what is started -------------------------------------------------------------------------------------------------


def test_crash_reads_its_commands_and_ends(opened: Context) -> None:
    assert debug(opened, None, replace(NOTHING, commands=("bt -a", "ps"))) == 0
    call = started(opened)
    assert call.argv == ("crash", "-s", "--no_scroll", path(opened, f"{DEBUG}/vmlinux"), path(opened, f"{HOME}/vmcore"))
    assert call.stdin == b"bt -a\nps\nquit\n"
    assert call.timeout is None


def test_drgn_is_told_in_json(opened: Context) -> None:
    assert debug(opened, RELEASE, replace(NOTHING, tool="drgn", commands=("prog", "1"))) == 0
    call = started(opened)
    assert call.argv[:5] == ("drgn", "-q", "--no-default-symbols", "-c", path(opened, f"{HOME}/vmcore"))
    assert Path(call.argv[5]).samefile(prompt.__file__)
    assert request(call) == {
        "vmlinux": path(opened, f"{DEBUG}/vmlinux"), "modules": [], "force": False, "commands": ["prog", "1"],
        "list": False,
    }  # fmt: skip


def test_without_commands_it_gets_the_terminal(opened: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def terminal(argv: list[str]) -> int:
        seen.append(argv)
        return 3

    monkeypatch.setattr(debugging, "interact", terminal)
    assert debug(opened, None, NOTHING) == 3
    assert seen == [["crash", path(opened, f"{DEBUG}/vmlinux"), path(opened, f"{HOME}/vmcore")]]


@pytest.mark.parametrize(("code", "ours"), [(0, 0), (1, 1), (7, 7), (-11, 139)])
def test_the_exit_code_is_that_of_the_tool(
    opened: Context, capsys: pytest.CaptureFixture[str], code: int, ours: int
) -> None:
    assert isinstance(opened.runner, FakeRunner)
    opened.runner.answers["crash"] = lambda call: Result(call.argv, code, b"", b"")
    assert debug(opened, None, BT) == ours
    assert ("kdump-pkg verify" in capsys.readouterr().err) == bool(code)


def test_prepare_prints_the_path_and_starts_nothing(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    assert debug(opened, None, replace(NOTHING, prepare=True)) == 0
    assert capsys.readouterr().out == path(opened, f"{DEBUG}/vmlinux") + "\n"
    assert request(started(opened))["list"] is True


def test_prepare_needs_no_debugger(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    (opened.root / "var/lib/pacman/local/crash-9.0.2-1/desc").unlink()
    for name in ("crash-9.0.2-1", "drgn-0.3.0-1"):
        for file in (opened.root / "var/lib/pacman/local" / name).iterdir():
            file.unlink()
        (opened.root / "var/lib/pacman/local" / name).rmdir()
    with pytest.raises(KdumpError, match="neither crash nor drgn is installed"):
        debug(opened, None, BT)
    assert debug(opened, None, replace(NOTHING, prepare=True)) == 0
    assert capsys.readouterr().out.endswith("/vmlinux\n")


def test_an_elf_core_is_as_good(opened: Context) -> None:
    opened.path(f"{HOME}/vmcore").write_bytes(elf_core())
    assert debug(opened, None, BT) == 0


# --- modules ---------------------------------------------------------------------------------------------------------


def test_modules_that_fit_are_given(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(opened.root, {
        f"{DEBUG}/kernel/drivers/md/dm-mod.ko": elf(OTHER, [".debug_info"]),
        f"{DEBUG}/kernel/fs/xfs/xfs.ko.debug": elf(OTHER, [".debug_info"]),
        f"{DEBUG}/kernel/drivers/net/tun.ko": elf(OTHER, [".symtab"]),
    })  # fmt: skip
    listing = f"kernel {BUILD_ID}\ndm_mod {OTHER}\nxfs {BUILD_ID}\ntun {OTHER}\n../evil {OTHER}\nbad\x1bname \n"
    assert isinstance(opened.runner, FakeRunner)
    opened.runner.answers["drgn"] = listing
    debug(opened, None, BT)
    assert started(opened).argv[-2:] == ("--mod", path(opened, DEBUG))
    debug(opened, None, replace(BT, tool="drgn"))
    assert request(started(opened))["modules"] == [path(opened, f"{DEBUG}/kernel/drivers/md/dm-mod.ko")]
    said = capsys.readouterr().err
    assert "without types: xfs, tun; no file of that build is here" in said, "of another build, and without DWARF"
    assert "evil" not in said and "\x1b" not in said


def test_crash_lists_them_where_drgn_is_not_here(opened: Context) -> None:
    packages = {"crash": "9.0.2-1"}
    session = debugging._Session("/vmcore", "/vmlinux")
    assert isinstance(opened.runner, FakeRunner)
    opened.runner.answers["crash"] = MOD
    assert debugging._loaded(opened, "crash", session) == {"virtio_blk": "", "dm_mod": ""}
    assert read_debuggers(opened, packages) == packages


@pytest.mark.parametrize("answer", [CommandError("drgn: not done after 120 s, ended"), 1, "\x00\xff\n\n \n"])
def test_a_dump_whose_modules_can_not_be_listed_is_opened(opened: Context, answer: Any) -> None:
    assert isinstance(opened.runner, FakeRunner)
    opened.runner.answers["drgn"] = answer
    assert debug(opened, None, BT) == 0


def test_types_of_modules_lie_together(opened: Context) -> None:
    made = (f"{DEBUG}/made/xfs.ko", f"{DEBUG}/made/tun.ko")
    assert debugging._common(made) == f"{DEBUG}/made"
    assert debugging._common((*made, f"{DEBUG}/kernel/drivers/md/dm-mod.ko")) == DEBUG
    assert debugging._common(("/elsewhere/tun.ko",)) == "/elsewhere"


# --- what is refused -------------------------------------------------------------------------------------------------


def gone(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").unlink()


def encrypted(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").rename(ctx.path(f"{HOME}/vmcore.age"))


def incomplete(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").rename(ctx.path(f"{HOME}/vmcore.incomplete"))
    ctx.path(f"{HOME}/meta").write_text(META.replace("complete", "incomplete"))


def headless(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump().build()[:3000])


def truncated(ctx: Context) -> None:
    data = Kdump().build()
    ctx.path(f"{HOME}/vmcore").write_bytes(data[: len(data) - 100])


def empty(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").write_bytes(b"")


def nothing_said(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump(info="PAGESIZE=4096\n").build())


def other_release(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump(info=INFO.replace(RELEASE, "6.6.6-arch1-1")).build())


def other_build(ctx: Context) -> None:
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump(info=INFO.replace(BUILD_ID, OTHER)).build())


def other_kernel(ctx: Context) -> None:
    ctx.path(f"{DEBUG}/vmlinux").write_bytes(elf(OTHER, [".debug_info"]))


def no_kernel(ctx: Context) -> None:
    ctx.path(f"{DEBUG}/vmlinux").unlink()


def no_build_id(ctx: Context) -> None:
    info = "".join(line for line in INFO.splitlines(keepends=True) if not line.startswith("BUILD-ID"))
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump(info=info).build())


def hostile(ctx: Context) -> None:
    info = INFO.replace(RELEASE, "../../etc").replace(BUILD_ID, "x\x1b[31m")
    ctx.path(f"{HOME}/meta").write_text("format=1\nresult=complete\n")
    ctx.path(f"{HOME}/vmcore").write_bytes(Kdump(info=info).build())


REFUSED = {
    gone: ("its memory was not saved", "kdump-pkg report"),
    encrypted: ("its memory is encrypted", "kdump-pkg decrypt"),
    incomplete: ("only the beginning of its memory was saved", "--force"),
    headless: ("truncated", ""),
    truncated: ("truncated", "--force"),
    empty: ("empty", ""),
    nothing_said: ("doesn't say of which kernel it is", ""),
    other_release: (f"was saved of {RELEASE}, and the memory in it is of 6.6.6-arch1-1", "--force"),
    other_build: (f"was saved of {BUILD_ID}, and the memory in it is of {OTHER}", "--force"),
    other_kernel: (BUILD_ID, "--force"),
    no_kernel: ("no kernel image of it is left", ""),
    no_build_id: ("build ID", "--force"),
    hostile: ("is no kernel release", ""),
}


@pytest.mark.parametrize("spoil", REFUSED)
def test_refused(opened: Context, spoil: Any) -> None:
    spoil(opened)
    text, hint = REFUSED[spoil]
    with pytest.raises(KdumpError) as caught:
        debug(opened, None, BT)
    said = f"{caught.value.message} {caught.value.hint}"
    assert text in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in said and "\x1b" not in said
    assert isinstance(opened.runner, FakeRunner)
    assert opened.runner.calls == [], "nothing is started on what doesn't fit"


@pytest.mark.parametrize(
    ("spoil", "another"), [(incomplete, False), (truncated, False), (other_kernel, True), (no_build_id, True)]
)
def test_force_tries(opened: Context, spoil: Any, another: bool, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(opened)
    assert debug(opened, None, replace(FORCED, tool="drgn")) == 0
    assert request(started(opened))["force"] == another
    assert ("WARNING" in capsys.readouterr().err) == another


def test_force_opens_a_moved_file_as_what_it_is(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    opened.path(f"{HOME}/meta").write_text(META.replace(BUILD_ID, OTHER))
    assert debug(opened, None, replace(FORCED, tool="drgn")) == 0
    assert request(started(opened))["force"] is False
    assert "the memory in it is of" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", [gone, encrypted, headless, empty, nothing_said, no_kernel, hostile])
def test_force_has_its_limits(opened: Context, spoil: Any) -> None:
    spoil(opened)
    with pytest.raises(KdumpError):
        debug(opened, None, FORCED)


def test_what_makedumpfile_could_not_write_is_said(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    opened.path(f"{HOME}/vmcore").write_bytes(Kdump(status=0x1 | 0x8).build())
    assert debug(opened, None, BT) == 0
    assert "not all of its memory was saved" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{}, {"vmcore": "/x.age"}, {"vmcore": "/x", "state": "being written"}])
def test_a_name_can_not_command_the_terminal(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    evil = Entry("a\nb\x1b[31m", "/x", "unknown", 0, **changes)
    monkeypatch.setattr(catalogue, "find", lambda ctx, config, match: evil)
    with pytest.raises(KdumpError) as caught:
        debug(ctx, None, BT)
    said = f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in said and "\x1b" not in said


@pytest.mark.parametrize("commands", [("",), ("bt", " ")])
def test_an_empty_command_is_refused(opened: Context, commands: tuple[str, ...]) -> None:
    with pytest.raises(KdumpError, match="--command is empty"):
        debug(opened, None, replace(NOTHING, commands=commands))


def test_the_other_tool_is_taken_for_a_new_kernel(opened: Context, capsys: pytest.CaptureFixture[str]) -> None:
    new = "7.2.0-arch1-1"
    make_tree(opened.root, {
        f"/var/crash/2026-11-24T00-00-00Z-{new}/meta": META.replace(RELEASE, new),
        f"/var/crash/2026-11-24T00-00-00Z-{new}/vmcore": Kdump(info=INFO.replace(RELEASE, new)).build(),
        f"/usr/lib/debug/lib/modules/{new}/vmlinux": elf(BUILD_ID, [".debug_info"]),
    })  # fmt: skip
    assert debug(opened, None, BT) == 0
    assert started(opened).argv[0] == "drgn"
    assert "crash 9.0.2 can't open dumps of Linux 7.1 and later; one after 9.0.2 can: opened by drgn 0.3.0-1" in (
        capsys.readouterr().err
    )
    assert debug(opened, None, replace(FORCED, tool="crash")) == 0
    assert "tried all the same" in capsys.readouterr().err


def test_the_command_line_leads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str | None, Wish]] = []

    def verb(ctx: Context, match: str | None, wish: Wish) -> int:
        seen.append((match, wish))
        return 5

    monkeypatch.setattr(debugging, "debug", verb)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    argv = ["debug", "6.12", "--tool", "drgn", "--command", "a", "--command", "b", "--force", "--prepare"]
    assert cli.main(argv) == 5
    assert seen == [("6.12", Wish("drgn", ("a", "b"), force=True, prepare=True))]


# --- facts -----------------------------------------------------------------------------------------------------------


def test_kernels_of_a_release(ctx: Context) -> None:
    make_tree(ctx.root, {
        f"{DEBUG}/vmlinux": elf(BUILD_ID, [".symtab"]), f"{DEBUG}/vmlinux.debug": b"\x7fELF damaged",
        f"{DEBUG}/vmlinux.made": elf(BUILD_ID, [".debug_info"]),
        f"/usr/lib/modules/{RELEASE}/build/vmlinux": elf(OTHER, [".debug_info"]),
        f"/usr/lib/modules/{RELEASE}/vmlinuz": bzimage(),
    })  # fmt: skip
    found = debugfiles.read_vmlinux(ctx, RELEASE)
    assert [(f.path.rpartition("/")[2], f.dwarf, f.made) for f in found] == [
        ("vmlinux", False, False), ("vmlinux", True, False), ("vmlinuz", False, False), ("vmlinux.made", True, True),
    ]  # fmt: skip
    assert [f.build_id for f in found[:2]] == [BUILD_ID, OTHER]
    assert debugfiles.read_vmlinux(ctx, "../x") == ()


def test_debuggers_without_a_package_say_their_version(ctx: Context) -> None:
    make_tree(ctx.root, {"/usr/bin/crash": "", "/usr/local/bin/drgn": ""})
    assert isinstance(ctx.runner, FakeRunner)
    ctx.runner.answers["crash"] = "\ncrash 8.0.4\nCopyright (C) 2002-2022  Red Hat, Inc.\n"
    assert read_debuggers(ctx, {}) == {"crash": "8.0.4", "drgn": ""}
    ctx.runner.answers["drgn"] = "drgn 0.0.33 (using Python 3.14)\n"
    assert read_debuggers(ctx, {"crash": "9.0.2-1"}) == {"crash": "9.0.2-1", "drgn": "0.0.33"}


# --- what drgn runs --------------------------------------------------------------------------------------------------


class FakeObject:
    def __init__(self, text: str, fault: bool = False) -> None:
        self.text, self.fault = text, fault

    def format_(self, columns: int) -> str:
        if self.fault:
            raise FakeFault("page excluded\x1b[31m")
        return f"({self.text})"

    def __repr__(self) -> str:
        return "Object()"


class FakeFault(Exception):
    pass


class FakeTrace:
    def __str__(self) -> str:
        return "#0  panic"


class FakeProgram:
    def __init__(self) -> None:
        self.loaded: list[Any] = []
        self.finders: list[str] = []

    def load_debug_info(self, paths: list[str]) -> None:
        self.loaded.append(paths)
        if "missing.ko" in paths:
            raise LookupError("missing.ko: \x1b[31mnot found")

    def create_loaded_modules(self) -> None:
        self.loaded.append("create")

    def main_module(self) -> Any:
        return SimpleNamespace(try_file=lambda path, force: self.loaded.append((path, force)))

    def modules(self) -> list[Any]:
        return [SimpleNamespace(name="kernel", build_id=b"\x01"), SimpleNamespace(name="xfs", build_id=None)]

    def register_symbol_finder(self, name: str, finder: object, *, enable_index: int) -> None:
        self.finders.append(name)


@pytest.fixture
def drgn(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProgram]:
    program = FakeProgram()
    shown = SimpleNamespace(
        run_interactive=lambda prog: program.loaded.append("prompt"),
        default_globals=lambda prog: {"prog": prog, "trace": FakeTrace(), "value": FakeObject("int)7"),
                                      "bad": FakeObject("", fault=True)},
    )  # fmt: skip
    fake = SimpleNamespace(
        get_default_prog=lambda: program, Object=FakeObject, StackTrace=FakeTrace, StackFrame=FakeTrace, Type=FakeTrace,
        FaultError=FakeFault, MissingDebugInfoError=LookupError, cli=shown,
    )  # fmt: skip
    helpers = SimpleNamespace(load_module_kallsyms=lambda prog: object())
    monkeypatch.setitem(sys.modules, "drgn", fake)
    monkeypatch.setitem(sys.modules, "drgn.cli", shown)
    for name in ("drgn.helpers", "drgn.helpers.linux"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "drgn.helpers.linux.kallsyms", helpers)
    monkeypatch.setattr(sys, "displayhook", sys.displayhook)
    monkeypatch.setattr(builtins, "_", None, raising=False)
    yield program


def ask(**changes: Any) -> list[str]:
    return [json.dumps({"vmlinux": "v", "modules": [], "force": False, "commands": [], "list": False} | changes)]


def test_prompt_shows_values_as_drgn_does(drgn: FakeProgram, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["value", "trace", "[value]", "x = 5", "x", "_ + 1", "for n in (1, 2): print(n)", "a = 1\nprint(a)", "None"]
    assert prompt.main(ask(commands=typed, modules=["xfs.ko"])) == 0
    assert capsys.readouterr().out.split("\n") == [
        "(int)7)", "#0  panic", "[Object()]", "5", "6", "1", "2", "1", "",
    ]  # fmt: skip
    assert drgn.loaded == [["v"], ["xfs.ko"]]
    assert drgn.finders == ["kdump-pkg modules"]


def test_a_command_that_fails_is_one_line_and_the_next_one_runs(
    drgn: FakeProgram, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prompt.main(ask(commands=["nosuch", "bad", "1 +", "7"], modules=["missing.ko"])) == 1
    said = capsys.readouterr()
    assert said.out == "Object()\n7\n"
    lines = said.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "modules", "NameError", "FakeFault", "SyntaxError",
    ]  # fmt: skip
    assert "\x1b" not in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(("command", "code"), [("raise SystemExit(7)", 7), ("exit()", 0)])
def test_a_command_may_end_it(drgn: FakeProgram, command: str, code: int) -> None:
    assert prompt.main(ask(commands=[command, "1 / 0"])) == code


def test_the_prompt_itself(drgn: FakeProgram) -> None:
    assert prompt.main(ask()) == 0
    assert drgn.loaded == [["v"], "prompt"]


def test_another_kernel_is_taken_by_force(drgn: FakeProgram) -> None:
    prompt.main(ask(force=True, commands=["1"]))
    assert drgn.loaded == ["create", ("v", True)]


def test_the_list_of_modules(drgn: FakeProgram, capsys: pytest.CaptureFixture[str]) -> None:
    assert prompt.main(ask(list=True)) == 0
    assert capsys.readouterr().out == "kernel 01\nxfs \n"


def test_a_drgn_without_that_helper_does_without(
    drgn: FakeProgram, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "drgn.helpers.linux.kallsyms", SimpleNamespace())
    assert prompt.main(ask(commands=["1"])) == 0
    assert "no symbols of modules" in capsys.readouterr().err


# --- the terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.spawns
def test_interact_hands_over_and_gives_the_code_back() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    assert interact(["sh", "-c", "exit 3"]) == 3
    assert interact(["sh", "-c", "kill -INT $$"]) == -signal.SIGINT, "Ctrl-C is for the program"
    assert interact(["sh", "-c", "kill -INT $PPID; exit 4"]) == 4, "and not for us"
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(CommandError, match="not found"):
        interact(["no-such-program"])
