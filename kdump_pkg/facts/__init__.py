"""Read-only probes. `collect` gathers what a plan is made from; nothing in here decides or changes anything."""

from __future__ import annotations

import re

from kdump_pkg import paths
from kdump_pkg.context import Context, stamp
from kdump_pkg.errors import CommandError
from kdump_pkg.facts import boot, generator, kernels, state, storage, trace, variant
from kdump_pkg.facts.alpm import Packages, open_packages
from kdump_pkg.model import Config, Facts

PROGRAMS = ("mdadm", "cryptsetup", "lvm", "btrfs", "age", "findfs")
TOOLS = ("makedumpfile", "kexec-tools", "mkinitcpio", "dracut", "busybox", "mkinitcpio-busybox", "crash", "drgn")


def collect(ctx: Context, config: Config) -> Facts:
    """All facts of this root. Reads only; what can't be known is None, never guessed."""
    packages = open_packages(ctx)
    image = f"{config.image_dir.rstrip('/')}/{paths.IMAGE_NAME}"
    found = kernels.read_kernels(ctx, packages)
    here = boot.read_boot(ctx)
    targets = storage.read_targets(ctx, config, trust=here.confined is not None)
    return Facts(
        kernels=found,
        boot=here,
        targets=targets,
        esp=storage.read_esp(ctx),
        hooks=state.read_hooks(ctx),
        record=trace.read_record(ctx),
        record_missing=trace.record_is_missing(ctx),
        traces=trace.read_traces(ctx),
        images=generator.read_system_images(ctx, packages, config.generator),
        tools=_tools(ctx, packages),
        programs=_programs(ctx),
        parts_hash=state.read_parts_hash(ctx),
        derived=state.read_own_file(ctx, paths.DERIVED_CONFIG),
        preset=state.read_own_file(ctx, paths.PRESET),
        capture_env=ctx.read_bytes(paths.CAPTURE_ENV),
        kernel_cache=ctx.read_bytes(paths.KERNEL_CACHE),
        image=state.read_image(ctx, image),
        debug=state.read_debug(ctx),
        dump_releases=state.read_dump_releases(ctx, (config.path, *(t.mounted for t in targets if t.mounted))),
        loaded=state.read_loaded(ctx),
        leftovers=state.read_leftovers(ctx, image),
        units=state.read_units(ctx),
        variant=variant.read_state(ctx),
    )


def _tools(ctx: Context, packages: Packages) -> dict[str, str | None]:
    versions = {name: packages.version(name) for name in TOOLS}
    if versions["makedumpfile"] is None and ctx.is_file("/usr/bin/makedumpfile"):
        versions["makedumpfile"] = _own_words(ctx)
    return versions


def _programs(ctx: Context) -> dict[str, str]:
    marks = {name: stamp(ctx.path(f"/usr/bin/{name}")) for name in PROGRAMS}
    return {name: mark for name, mark in marks.items() if mark}


def _own_words(ctx: Context) -> str | None:
    """makedumpfile's version as it says it itself, where no package tells."""
    try:
        text = ctx.runner(["makedumpfile", "-v"], root=ctx.root, check=False, timeout=10).text
    except CommandError:
        return None
    found = re.search(r"version (\d+(?:\.\d+)+)", text)
    return found[1] if found else None
