"""Where the dumps really go: file system, name that survives a reboot, directory inside it, what lies under it.

On the running system mountinfo, udev and sysfs tell; elsewhere (another root, a chroot on an overlay) /etc/fstab and
the configuration do, and the hardware stays unknown. Nothing in here raises: what is wrong stands in `Target.problem`.
"""

from __future__ import annotations

from dataclasses import replace

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import by_name, by_path, devices, stack, volume
from kdump_pkg.facts.lookup import REMEDY, Machine, Problem, read_machine
from kdump_pkg.model import Config, CryptVolume, Target, TargetWish


def read_targets(ctx: Context, config: Config, *, trust: bool = False) -> tuple[Target, ...]:
    """One target for each that is wished for, in the same order; never raises, says what is wrong in `problem`.

    With `trust` a file system that is named need not be here: in a chroot this machine is not the one that will crash.
    """
    machine = read_machine(ctx, trust=trust)
    return tuple(_read(machine, wish) for wish in config.targets)


def read_esp(ctx: Context, wish: TargetWish | None = None) -> Target | None:
    """The ESP as a target; None where none is seen."""
    found = _read(read_machine(ctx), wish or TargetWish("esp"))
    return None if found.problem == by_name.NO_ESP else found


def _read(machine: Machine, wish: TargetWish) -> Target:
    read = {"root": by_path.read, "esp": by_name.read_esp}.get(wish.name, by_name.read_named)
    try:
        target = _checked(machine.ctx, wish, read(machine, wish))
    except Problem as problem:
        target = replace(problem.target or Target("", "", wish.path), device="", problem=str(problem))
    except (OSError, RuntimeError, ValueError, KdumpError) as error:
        text = str(error).replace("\n", " ")
        target = Target("", "", wish.path, problem=f"{wish.path!r}: {text}; {REMEDY}")
    limits = replace(target, name=wish.name, device_timeout=wish.device_timeout, timeout=wish.timeout)
    return replace(limits, retention=wish.retention)


def _checked(ctx: Context, wish: TargetWish, target: Target) -> Target:
    """The last look: layers of the configuration instead of those seen, and nothing that can't be written down."""
    if wish.layers is not None:
        target = replace(target, layers=wish.layers, crypt=_volumes(ctx, wish, target))
    for text in (target.device, target.path, target.options, *(layer.name for layer in target.layers)):
        if not text.isprintable():
            raise Problem(f"{text!r}: no name that can be written down; {REMEDY}", target)
    return target


def _volumes(ctx: Context, wish: TargetWish, target: Target) -> tuple[CryptVolume, ...]:
    """What is known of the volumes that the configuration names."""
    seen = {one.uuid: one for one in target.crypt}
    uuids = [layer.name for layer in wish.layers or () if layer.kind == "crypt"]
    unseen = (stack.Crypt(uuid, "", devices.path_of(ctx, "UUID", uuid) if ctx.live else "") for uuid in uuids)
    return tuple(seen.get(crypt.uuid) or volume.read_volume(ctx, crypt) for crypt in unseen)
