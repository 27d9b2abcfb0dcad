"""`make demo`: the main job on real parts, from `pacman -U` to the report of a saved dump."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import packages
from .common import LabError
from .root import ArchRoot, Generator, default_generator, mkinitcpio_prefix, open_root

REPO = Path(__file__).resolve().parents[2]
SOMETHING_TO_DO = 3  # what `status` exits with where nothing can be loaded


def main() -> int:
    """The whole story; the exit code is that of the rehearsal."""
    started = time.monotonic()
    generator = default_generator()
    try:
        code = _story(generator)
    except LabError as error:
        _say(f"==> ERROR: {error}")
        return 1
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    _say(f"==> {'Done' if code == 0 else 'FAILED'} in {minutes} min {seconds} s, images by {generator}")
    return code


def _story(generator: Generator) -> int:
    if generator == "dracut":
        _say("==> No mkinitcpio here (KDUMP_TEST_MKINITCPIO points to none either): dracut builds the images")
    else:
        _say(f"==> Images are built by mkinitcpio, from {mkinitcpio_prefix()}")
    with _step("An Arch-like root"):
        root_is_open = open_root(generator=generator)
        root = root_is_open.__enter__()
    try:
        with _step("makepkg: kdump-pkg from this work tree"):
            package = packages.kdump_pkg(REPO)
            _say(f"  -> {package.name}")
        with _step("Kernel packages"):
            kernels = [packages.kernel("6.12"), packages.kernel("7.2")]
            _say(*(f"  -> {kernel.name}" for kernel in kernels))
        with _step(f"pacman -U {kernels[0].name} {package.name}"):
            root.pacman("-U", kernels[0], package, echo=True)
        with _step(f"pacman -U {kernels[1].name}: the upgrade after which nothing is to be done by hand"):
            root.pacman("-U", kernels[1], echo=True)
        with _step("kdump-pkg status (in a chroot, where nothing is ever loaded)"):
            _status(root)
        with _step("kdump-pkg rehearse: that kernel, image and command line, crashed in a virtual machine"):
            return _rehearse(root)
    finally:
        root_is_open.__exit__(None, None, None)


def _status(root: ArchRoot) -> None:
    done = root.run(["kdump-pkg", "status"], check=False, echo=True)
    if done.returncode not in (0, SOMETHING_TO_DO):
        raise LabError(f"kdump-pkg status: exit {done.returncode}")


def _rehearse(root: ArchRoot) -> int:
    """Rehearse from outside of the root, then show what was saved."""
    with tempfile.TemporaryDirectory(prefix="kdump-pkg-demo-") as work:
        kept = Path(work) / "kept"
        argv = [sys.executable, "-m", "kdump_pkg", "rehearse", "--root", str(root.path), "--keep", str(kept)]
        code = subprocess.run(argv, cwd=REPO, check=False).returncode
        for dmesg in sorted(kept.rglob("dmesg.txt")):
            _show_dump(root, dmesg.parent)
    return code


def _show_dump(root: ArchRoot, dump: Path) -> None:
    """Its files, and what the installed kdump-pkg says of it once it lies where a real crash would have left it."""
    _say(f"==> What the crash left: {dump.name}")
    _say(*(f"  -> {path.stat().st_size:>12,} bytes  {path.name}" for path in sorted(dump.iterdir())))
    shutil.copytree(dump, root.path / "var/crash" / dump.name, dirs_exist_ok=True)
    for verb in (["collect"], ["list"], ["report"], ["debug", "--prepare"]):
        _say(f"==> kdump-pkg {' '.join(verb)}")
        root.run(["kdump-pkg", *verb], check=False, echo=True)


@contextmanager
def _step(title: str) -> Iterator[None]:
    _say(f"==> {title}")
    started = time.monotonic()
    yield
    _say(f"  -> {time.monotonic() - started:.1f} s")


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
