"""A slim kernel that is not installed, or not trusted yet: an image is made for it on a stage, and both are crashed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdump_pkg import paths, reconcile, rehearsal
from kdump_pkg.apply import images, stage
from kdump_pkg.apply import rehearsal as machinery
from kdump_pkg.context import Context, stamp
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import building
from kdump_pkg.facts.kernels import read_modules
from kdump_pkg.facts.state import read_image
from kdump_pkg.model import BuildImage, Capture, Config, Facts, Kernel
from kdump_pkg.plan import machine, variant
from kdump_pkg.plan.capture import design_capture, user_owned
from kdump_pkg.plan.rehearsal import Wish
from kdump_pkg.plan.verdict import Verdict

GUESS_MIB = 256
"""Of a reservation that nobody has made yet."""


class ImpossibleError(KdumpError):
    """It can't be tried on this machine: that says nothing of the kernel."""


@dataclass(frozen=True)
class Trial:
    """What lies on the stage, as if it were installed and trusted."""

    config: Config
    facts: Facts
    kernel: Kernel


def look(ctx: Context, config: Config, release: str) -> Trial:
    """The kernel on the stage among all that the machine has. Raises KdumpError for one that can't capture here."""
    staged = Context(ctx.path(paths.VARIANT_STAGE), ctx.runner, ctx.clock)
    kernel = building.read_unpacked(ctx, paths.VARIANT_STAGE, release)
    # The mark of the file is that of the installed one: bsdtar and pacman keep its time.
    kernel = replace(kernel, stamp=stamp(ctx.path(kernel.vmlinuz or "")))
    facts = reconcile.read_facts(ctx, config)
    others = tuple(k for k in facts.kernels if not k.variant)
    facts = replace(facts, kernels=(*others, kernel), modules=read_modules(staged, release))
    lacking = variant.lacks(config, facts, kernel)
    if lacking:
        raise KdumpError(f"{release} has no {' and no '.join(lacking)}", hint="see drivers = and modules =")
    return Trial(replace(config, kernel=paths.VARIANT, image_dir=paths.VARIANT_STAGE), facts, kernel)


def check(trial: Trial) -> None:
    """Raises ImpossibleError where no rehearsal can be held, as far as that can be known before."""
    if trial.config.capture == "system":
        raise ImpossibleError("capture = system can't be rehearsed")
    try:
        machinery.need(machine.QEMU)
    except KdumpError as error:
        raise ImpossibleError(error.message, hint=error.hint) from None


def crash(ctx: Context, trial: Trial) -> Verdict:
    """Make the image and see whether the two capture. Raises ImpossibleError where that can't be found out here."""
    capture = design_capture(trial.config, trial.facts)
    _make_image(ctx, trial, capture)
    facts = replace(trial.facts, image=read_image(ctx, capture.image))
    try:
        return rehearsal.rehearse(ctx, trial.config, facts, wish(facts, capture))
    except KdumpError as error:
        raise ImpossibleError(error.message, hint=error.hint) from None


def wish(facts: Facts, capture: Capture) -> Wish:
    """With the memory that is really reserved; a passphrase is typed where the real capture would ask for it."""
    reserved = (facts.boot.crash_size or 0) >> 20 or GUESS_MIB
    typed = any(volume.key == "none" for target in capture.targets for volume in target.crypt)
    least = Wish().memory_mib
    return Wish(memory_mib=max(least, 2 * reserved), crashkernel=f"{reserved}M", type_passphrase=typed)


def _make_image(ctx: Context, trial: Trial, capture: Capture) -> None:
    own = trial.facts.derived.data if user_owned(trial.facts.derived) else capture.derived
    stage.write(ctx, capture, own)
    settings = (capture.image, capture.generator, capture.kernel.release, capture.fingerprint, capture.flavour)
    images.build(ctx, BuildImage(*settings, "to be tried", stage=paths.VARIANT_STAGE))
