"""What drgn runs for the verb `debug`: a program of its own, with a dump open already, told what to do in JSON.

It opens the kernel and the modules that it is given, and no others; knows the symbols of modules without a file; then
runs commands as drgn's prompt would, lists the modules, or shows that prompt. It imports nothing of ours: the Python
is drgn's.
"""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

MOST_MODULES = 2000
"""In a damaged dump their list may go round."""
Request = dict[str, Any]
"""`vmlinux`: its path; `modules`: paths; `force`: take the kernel though it is another one; `commands`: what to run;
`list`: print name and build ID of each module, and nothing else."""


def main(argv: Sequence[str]) -> int:
    """The exit code: 1 where a command failed."""
    import drgn

    request: Request = json.loads(argv[0])
    program = drgn.get_default_prog()
    _load(program, request)
    if request["list"]:
        for module in islice(program.modules(), MOST_MODULES):
            _out(f"{module.name} {(module.build_id or b'').hex()}")
        return 0
    _know_modules(program)
    if request["commands"]:
        return _run(program, request["commands"])
    import drgn.cli

    drgn.cli.run_interactive(program)
    return 0


def _load(program: Any, request: Request) -> None:
    import drgn

    if request["force"]:
        program.create_loaded_modules()
        program.main_module().try_file(request["vmlinux"], force=True)
    else:
        program.load_debug_info([request["vmlinux"]])
    try:
        if request["modules"]:
            program.load_debug_info(request["modules"])
    except (drgn.MissingDebugInfoError, drgn.FaultError, ValueError) as error:
        _err(f"modules: {_line(error)}")


def _know_modules(program: Any) -> None:
    """Symbols of modules, from the tables that the kernel itself keeps of them."""
    try:
        from drgn.helpers.linux.kallsyms import load_module_kallsyms

        program.register_symbol_finder("kdump-pkg modules", load_module_kallsyms(program), enable_index=1)
    except Exception as error:  # a damaged dump, or a drgn that has it elsewhere
        _err(f"no symbols of modules: {_line(error)}")


def _run(program: Any, commands: Sequence[str]) -> int:
    import drgn.cli

    known = drgn.cli.default_globals(program)
    sys.displayhook = _display
    failed = 0
    for command in commands:
        try:
            exec(_compile(command), known)
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 0
        except Exception as error:  # of a command, or of a dump that lacks a page
            _err(_line(error))
            failed = 1
    return failed


def _compile(command: str) -> Any:
    """As typed at the prompt, where the value of an expression is shown; several statements are a program."""
    try:
        return compile(command, "<command>", "single")
    except SyntaxError:
        return compile(command, "<command>", "exec")


def _display(value: object) -> None:
    """As drgn's prompt shows it."""
    import drgn

    if value is None:
        return
    if isinstance(value, drgn.Object):
        try:
            text = value.format_(columns=0)
        except drgn.FaultError as error:
            _err(_line(error))
            text = repr(value)
    elif isinstance(value, (drgn.StackFrame, drgn.StackTrace, drgn.Type)):
        text = str(value)
    else:
        text = repr(value)
    _out(text)
    builtins._ = value  # type: ignore[attr-defined]


def _out(text: str) -> None:
    print(text.encode(errors="backslashreplace").decode(), flush=True)  # noqa: T201


def _err(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _line(error: BaseException) -> str:
    """One line of printable characters: what is in it may come out of the dump."""
    text = "".join(c if c.isprintable() else " " for c in str(error)[:500])
    return f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
