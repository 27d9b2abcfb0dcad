"""What `crashes` needs of Debian for one kernel: its module, built with that kernel's own headers, and two programs."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import debian, packages
from .chroot import Chroot
from .common import LabError, cache, digest, need, once, run, say, source_digest
from .packages import SUITES, Series

MODULE = Path(__file__).parent / "crash_module"
BUILT_IN = "/usr/src/labcrash"
"""The kernel's messages name it, as they would that of any module of DKMS; no path of this machine may be in them."""
PROGRAMS = {"kexec": "/usr/sbin/kexec", "makedumpfile": "/usr/bin/makedumpfile"}


@dataclass(frozen=True)
class Tools:
    """As files for initramfs images: path to content."""

    module: Path
    kexec: dict[str, bytes]
    makedumpfile: dict[str, bytes]


def tools(series: Series) -> Tools:
    """Made once for a kernel and a source of the module. Raises LabError if Debian has no headers of that kernel."""
    source = [path.read_bytes() for path in sorted(MODULE.iterdir())]
    key = digest(source_digest("crash_tools"), packages.release(series), *source)
    path = once(f"crash-tools/{series}-{key}", lambda dest: _make(series, dest))
    kexec, makedumpfile = (_program(path / name) for name in PROGRAMS)
    return Tools(path / "labcrash.ko", kexec, makedumpfile)


def _program(home: Path) -> dict[str, bytes]:
    return {f"{path.relative_to(home)}": path.read_bytes() for path in home.rglob("*") if path.is_file()}


def _make(series: Series, dest: Path) -> None:
    """By a root of Debian's in which nothing was set up, half a minute's work; it is gone afterwards."""
    release = packages.release(series)
    say(f"building the module that crashes {release} (once)")
    with tempfile.TemporaryDirectory(prefix=".crash-tools.", dir=cache()) as work:
        root = Path(work) / "root"
        _unpack(series, [f"linux-headers-{release}", "make", "kexec-tools", "makedumpfile"], root)
        shutil.copytree(MODULE, root / BUILT_IN.lstrip("/"))
        headers = f"/usr/src/linux-headers-{release}"
        Chroot(root).run(["make", "-C", headers, f"M={BUILT_IN}", "AWK=mawk", "modules"])
        dest.mkdir(parents=True)
        shutil.copy(root / BUILT_IN.lstrip("/") / "labcrash.ko", dest)
        for name, program in PROGRAMS.items():
            _take(root, program, dest / name)


def _unpack(series: Series, names: list[str], root: Path) -> None:
    """What these packages are and need, and what every Debian has; no script of theirs is run."""
    need("mmdebstrap")
    apt = [f"--aptopt={line}" for line in [*debian.options(), 'APT::Install-Recommends "false"']]
    how = ["--variant=extract", "--mode=root", f"--include={','.join(names)}", "--include=?essential", *apt]
    run(["mmdebstrap", *how, SUITES[series], root, debian.source_line(SUITES[series])], timeout=1800)


def _take(root: Path, program: str, dest: Path) -> None:
    """A program with its loader and its libraries, to be started by `/lib/ld.so --library-path /lib`."""
    loader = "/lib64/ld-linux-x86-64.so.2"
    listed = run(["chroot", root, loader, "--list", program]).stdout
    libraries = re.findall(r"=> (/\S+)", listed)
    if not libraries:
        raise LabError(f"{program}: no libraries in {listed!r}")
    names = {f"bin/{Path(program).name}": program, "lib/ld.so": loader, **{f"lib/{Path(p).name}": p for p in libraries}}
    for name, path in names.items():
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path.lstrip("/"), dest / name)
