"""The system's own kernel once more, by its own configuration, with all that a debugger wants to know of it.

What comes of it is an ordinary kernel package, `linux-dwarf` beside `linux`: it is booted from the menu, and its
vmlinux is kept by the same `rebuild` that keeps every kernel's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kdump_pkg import config as configuration
from kdump_pkg import fs, paths, reconcile, ui
from kdump_pkg.apply import package_build
from kdump_pkg.apply.build_log import BuildError, Log
from kdump_pkg.context import Context
from kdump_pkg.errors import BusyError, KdumpError
from kdump_pkg.facts import building
from kdump_pkg.model import Config, Facts, Kernel
from kdump_pkg.plan import variant_build
from kdump_pkg.plan.kernel import choose
from kdump_pkg.plan.variant_build import Parts
from kdump_pkg.run import stopped_by_sigterm
from kdump_pkg.untrusted import masked

RECIPE = {"PKGBUILD": "debug/PKGBUILD", "configure": "debug/configure", "source.sh": "source.sh"}
"""Names in the directory of the build, and below `paths.VARIANT_RECIPE`."""
CONFIG, SETTINGS = "system.config", "settings"
ALSO = {b"\nCONFIG_DEBUG_INFO_BTF=y": b"pahole", b"\nCONFIG_RUST=y": b"rust rust-bindgen rust-src"}
"""What kernels of some configurations are built by, as the PKGBUILD has it."""
OF_PACKAGE = {".BUILDINFO", ".MTREE", ".PKGINFO"}
VMLINUZ = re.compile(r"usr/lib/modules/([A-Za-z0-9._+~-]+)/vmlinuz")
SAID_EVERY = 250
"""Files compiled between two lines of progress; Arch's kernel has some 20,000."""
LONG = 1800  # seconds in which a package of gigabytes is read through
SOME = 4 << 30  # bytes of memory, where nobody knows how much there is
GRUB = "/boot/grub/grub.cfg"


@dataclass(frozen=True)
class Job:
    """All that is known before the build."""

    system: Kernel
    name: str
    files: dict[str, bytes]
    links: dict[str, str]
    keep: tuple[str, ...]
    """What makepkg has fetched and need not fetch again."""


def build(ctx: Context) -> int:
    """`variant build --debug-kernel`: prepares, builds, installs, and says what there is now. Returns the exit code."""
    with _alone(ctx):
        job = plan(ctx, configuration.load(ctx))
        ui.say(f"building {job.name}: {job.system.release} as it is configured, with debug information")
        ui.detail(f"a distribution's kernel takes an hour and more of four processors; the log: {_home('build.log')}")
        package_build.prepare(ctx, paths.DEBUG_KERNEL_BUILD, job.files, job.links, job.keep)
        package = _makepkg(ctx)
        release = check(ctx, package, job.name)
        ui.say(f"installing {job.name}: {release}")
        package_build.install(ctx, package, ui.detail)
        fs.remove(ctx.path(package))
    tell(ctx, job, release)
    return 0


@contextmanager
def _alone(ctx: Context) -> Iterator[None]:
    """Not beside another one of these; beside the capture kernel's build it may be."""
    try:
        with fs.lock(ctx.path(paths.DEBUG_KERNEL_LOCK)), stopped_by_sigterm():
            yield
    except BusyError:
        raise BusyError(
            "a debug kernel is being built already", hint=f"see how far it is: {_home('build.log')}"
        ) from None


# --- what is to be built --------------------------------------------------------------------------------------------


def plan(ctx: Context, config: Config) -> Job:
    """Raises KdumpError for a kernel whose configuration or source isn't known, and for what building it lacks."""
    facts = reconcile.read_facts(ctx, config)
    system = _system(config, facts)
    base, version, release = system.pkgbase or "", system.version or "", system.release
    kconfig = building.read_kernel_config(ctx, release)
    if kconfig is None:
        raise KdumpError(
            f"nothing here has the configuration of {release}", hint=f"boot it, or install its headers: {base}-headers"
        )
    recipe = _recipe(ctx)
    _check_tools(ctx, recipe["PKGBUILD"], kconfig)
    source = variant_build.resolve(config.variant, base, version, release, building.read_local(ctx, config.variant))
    jobs = variant_build.jobs(building.read_cpus(ctx), facts.boot.memory_total or SOME)
    text = variant_build.settings(source, Parts(()), jobs)
    files = {**recipe, CONFIG: kconfig, SETTINGS: f"{text}_base={shlex.quote(base)}\n".encode()}
    keep = tuple(entry.rsplit("/", 1)[-1] for entry in source.entries)
    return Job(system, f"{base}{paths.DEBUG_SUFFIX}", files, dict(source.links), keep)


def _system(config: Config, facts: Facts) -> Kernel:
    """The kernel that a bug is looked for in: the running one, also where it runs as a debug kernel already."""
    stock = tuple(k for k in facts.kernels if not k.variant and not (k.pkgbase or "").endswith(paths.DEBUG_SUFFIX))
    running = next((k.pkgbase or "" for k in facts.kernels if k.release == facts.boot.running), "")
    own = tuple(k for k in stock if k.pkgbase == running.removesuffix(paths.DEBUG_SUFFIX))
    try:
        return choose(replace(config, kernel="auto"), own or stock, facts.boot.running)
    except KdumpError:
        raise KdumpError("there is no kernel package to build again", hint="install one: pacman -S linux") from None


def _recipe(ctx: Context) -> dict[str, bytes]:
    files = {name: ctx.read_bytes(f"{paths.VARIANT_RECIPE}/{file}") for name, file in RECIPE.items()}
    missing = [RECIPE[name] for name, data in files.items() if data is None]
    if missing:
        raise KdumpError(f"{paths.VARIANT_RECIPE}: {', '.join(missing)} is missing", hint="reinstall kdump-pkg")
    return {name: data for name, data in files.items() if data is not None}


def _check_tools(ctx: Context, recipe: bytes, kconfig: bytes) -> None:
    """makepkg would say it too, at some length."""
    more = b" ".join(names for line, names in ALSO.items() if line in b"\n" + kconfig)
    lacking = package_build.lacking(ctx, recipe.replace(b"\nmakedepends=(", b"\nmakedepends=(" + more + b" ", 1))
    if lacking:
        names = " ".join(lacking)
        raise KdumpError(f"not installed, and needed to build a kernel: {names}", hint=f"pacman -S --asdeps {names}")


# --- building it ----------------------------------------------------------------------------------------------------


def _makepkg(ctx: Context) -> str:
    try:
        return package_build.makepkg(ctx, paths.DEBUG_KERNEL_BUILD, progress(ui.detail))
    except BuildError as error:
        hint = error.hint or f"the log: {_home('build.log')}"
        raise KdumpError(f"no debug kernel was made, {error.step}: {error.message}", hint=hint) from None


def progress(say: Callable[[str], None]) -> Callable[[Log], None]:
    """What watches the log: SAY gets a line for every SAID_EVERY files."""
    said = 0

    def watch(log: Log) -> None:
        nonlocal said
        if log.objects - said >= SAID_EVERY:
            said = log.objects - log.objects % SAID_EVERY
            say(f"{log.objects} files compiled")

    return watch


def check(ctx: Context, package: str, name: str) -> str:
    """The release of the kernel in a package. Raises KdumpError when more is in it than one kernel of that NAME.

    It was made by a user who may do nothing, out of a source that may do anything to him; root installs it.
    """
    path = str(ctx.path(package))
    listed = ctx.runner(["bsdtar", "-tf", path], timeout=LONG).text.splitlines()
    info = ctx.runner(["bsdtar", "-xOqf", path, ".PKGINFO"], timeout=LONG).text.splitlines()
    if f"pkgname = {name}" not in info or any(line.startswith(("replaces =", "install =")) for line in info):
        raise KdumpError(f"{package}: is no package {name}")
    releases = [found[1] for found in map(VMLINUZ.fullmatch, listed) if found]
    if len(releases) != 1 or not releases[0].endswith(paths.DEBUG_SUFFIX):
        found = masked(", ".join(releases)) or "none"
        raise KdumpError(f"{package}: holds other kernels than one that ends with {paths.DEBUG_SUFFIX}: {found}")
    homes = (f"{paths.MODULES}/{releases[0]}/".lstrip("/"), f"{paths.DEBUG_MODULES}/{releases[0]}/".lstrip("/"))
    for file in listed:
        outside = not file.startswith(homes) and not (file.endswith("/") and any(h.startswith(file) for h in homes))
        if ".." in file.split("/") or (outside and file not in OF_PACKAGE):
            raise KdumpError(f"{package}: would install {masked(file)}, which is no file of a kernel")
    return releases[0]


# --- what there is now ----------------------------------------------------------------------------------------------


def tell(ctx: Context, job: Job, release: str) -> None:
    """What was made, how it is booted, how a dump of it is opened."""
    kept = f"{paths.DEBUG_MODULES}/{release}/vmlinux"
    vmlinux = kept if ctx.is_file(kept) else f"{paths.MODULES}/{release}/build/vmlinux"
    size = ctx.path(vmlinux).stat().st_size >> 20
    ui.say(f"{job.name} is installed beside {job.system.pkgbase}: the kernel {release}")
    if _numbers(release) != _numbers(job.system.release):
        ui.warn(f"it is not the same kernel: source = has another one than {job.system.release}")
    ui.detail(f"its vmlinux, with all source lines: {vmlinux} ({size} MiB)")
    after = "after grub-mkconfig -o " + GRUB if ctx.is_file(GRUB) else f"as {job.system.pkgbase} has it"
    ui.detail(f"boot it: {job.name} in the boot menu, {after}; crashkernel= belongs to its command line too")
    ui.detail("open a dump of it: kdump-pkg debug --tool crash --command 'bt -l'")
    ui.detail(f"its source, for gdb's list and crash's dis -s: {_home('src/linux')}; all of it can go: rm -r {_home()}")


def _numbers(release: str) -> str:
    """6.12.1 of 6.12.1-arch1-1."""
    found = re.match(r"\d+\.\d+(\.\d+)?", release)
    return found[0].removesuffix(".0") if found else release


def _home(name: str = "") -> str:
    return f"{paths.DEBUG_KERNEL_BUILD}/{name}".rstrip("/")
