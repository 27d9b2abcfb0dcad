"""Building the capture image: by the generator into a temporary file, checked, synced, and only then given its name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.initramfs import unpacked_size
from kdump_pkg.facts.state import read_image
from kdump_pkg.model import BuildImage
from kdump_pkg.render import cpio_archive

TIMEOUT = 1800  # seconds: dracut on a slow disk under emulation took 50


class BuildError(KdumpError):
    """The image could not be built; the old one, if any, is untouched."""


def build(ctx: Context, action: BuildImage) -> None:
    """Build the image of ACTION. Raises BuildError; nothing has changed then."""
    final = ctx.path(action.path)
    tmp = fs.temporary(final)
    inside = f"{os.path.dirname(action.path)}/{tmp.name}"  # noqa: PTH120 - a path inside the root
    try:
        if not ctx.path("/proc/self/mountinfo").exists():
            raise KdumpError(
                f"{ctx.root} has no /proc", hint=f"run it inside: arch-chroot {ctx.root} kdump-pkg rebuild"
            )
        fs.ensure_directory(final.parent)
        if final.exists():
            fs.check_space(final.parent, final.stat().st_size)
        env = {"KDUMP_CAPTURE_ENV": f"{action.stage}/capture.env"} if action.stage else None
        ctx.runner(command(action, inside), root=ctx.root, capture=False, timeout=TIMEOUT, env=env)
        if action.generator == "dracut":
            _prepend(tmp, cpio_archive("kdump/fingerprint", f"{action.fingerprint}\n".encode()))
        made = read_image(ctx, inside)
        if made.fingerprint != action.fingerprint:
            raise KdumpError(f"{action.generator} made an image without our part in it", hint="see its messages above")
        tmp.chmod(0o600)
        fs.commit(tmp, final)
    except KdumpError as error:
        raise BuildError(
            f"{action.path} was not built, what was there stays: {error.message}", hint=error.hint
        ) from None
    finally:
        tmp.unlink(missing_ok=True)
    if not action.stage:
        remember(ctx, action.fingerprint, unpacked_size(final))


def remember(ctx: Context, fingerprint: str, unpacked: int | None, least_mib: int | None = None) -> None:
    """Keep what is known of the image of this fingerprint, for `estimate`; without it a guess has to do there."""
    known = {"fingerprint": fingerprint, "unpacked": unpacked, "least_mib": least_mib}
    with contextlib.suppress(KdumpError):
        fs.write_record(ctx.path(paths.IMAGE_FACTS), known)


def command(action: BuildImage, out: str) -> list[str]:
    """What the generator is called with."""
    if action.generator == "mkinitcpio":
        settings = f"{action.stage}/mkinitcpio.conf" if action.stage else paths.DERIVED_CONFIG
        place = ["-r", action.stage] if action.stage else []
        return ["mkinitcpio", "-c", settings, *place, "-k", action.release, "-g", out]
    place = ["--kmoddir", f"{action.stage}/lib/modules/{action.release}"] if action.stage else []
    own = _DRACUT_SYSTEM if action.system else _DRACUT_CAPTURE
    return ["dracut", *_DRACUT_OPTIONS, *own, *place, "--kver", action.release, out]


# A user who has dracut make unified kernel images gets none of those from us: kexec takes the plain image.
_DRACUT_OPTIONS = ("--force", "--quiet", "--gzip", "--no-early-microcode", "--nostrip", "--no-uefi")
_DRACUT_CAPTURE = ("--no-hostonly", "--no-hostonly-cmdline", "--modules", "kdump-pkg")
"""Only our module: it asks for the others that its flavour needs, and names the drivers."""
_DRACUT_SYSTEM = ("--omit", "drm simpledrm plymouth resume bluetooth memstrack", "--add", "kdump-pkg")
"""What the user's own images have, as their configuration says, and our module; less what only costs memory."""


def _prepend(image: Path, head: bytes) -> None:
    """Put an uncompressed archive before the image: the kernel unpacks them one after the other."""
    whole = image.with_name(f"{image.name}.whole")
    try:
        fs.write_atomic(whole, head + image.read_bytes(), 0o600)
        whole.replace(image)
    except OSError as error:
        raise KdumpError(f"{image}: {error.strerror}") from None
    finally:
        whole.unlink(missing_ok=True)
