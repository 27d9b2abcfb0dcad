"""Which program made the system's own images, and what bash says that the user's mkinitcpio configuration says."""

from __future__ import annotations

import re

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.facts import bash
from kdump_pkg.facts.alpm import Packages
from kdump_pkg.model import GeneratorName, SystemImages

ARRAYS = ("HOOKS", "MODULES", "BINARIES", "FILES")

# Sources each file in a clean bash and prints the arrays, NUL-separated, each introduced by its name. A plain string
# is split into words, as mkinitcpio itself does it. mkinitcpio joins the files before it sources them, so only the last
# one's last command counts as failed; but what can't be parsed is an error in each.
EVALUATE = r"""
cd /
for file; do
    . "$file" >&2 || { [[ $file != "${!#}" ]] && "$BASH" -n "$file"; } || exit
done
set +eu
IFS=$' \t\n'
for name in HOOKS MODULES BINARIES FILES; do
    declare -n array="$name"
    [[ ${array@a} == *a* ]] || read -r -a array <<<"${array-}"
    printf '=%s\0' "$name"
    (( ${#array[@]} )) && printf '+%s\0' "${array[@]}"
    unset -n array
done
printf '=END\0'
"""


def read_system_images(ctx: Context, packages: Packages, wanted: str) -> SystemImages:
    """The generator (WANTED unless that is `auto`) and, for mkinitcpio, the evaluated configuration."""
    name = _choose(ctx) if wanted == "auto" else _checked(wanted)
    if name is None:
        return SystemImages(None, problem="neither mkinitcpio nor dracut is installed; pacman -S mkinitcpio")
    if not ctx.is_file(f"/usr/bin/{name}"):
        return SystemImages(None, problem=f"{name} is not installed; install it: pacman -S {name}")
    version = packages.version(name) or packages.version(f"{name}-git")
    if name == "dracut":
        return SystemImages("dracut", version)
    return _mkinitcpio(ctx, version)


def _checked(wanted: str) -> GeneratorName:
    return "dracut" if wanted == "dracut" else "mkinitcpio"


def _choose(ctx: Context) -> GeneratorName | None:
    """Who built the system's images: its presets or its pacman hooks tell, where both are installed."""
    there: list[GeneratorName] = [n for n in _GENERATORS if ctx.is_file(f"/usr/bin/{n}")]
    if len(there) != 2:
        return there[0] if there else None
    presets = [p for p in ctx.names(paths.PRESET_DIR) if p.endswith(".preset") and p != "kdump.preset"]
    hooks = [h for h in ctx.names("/usr/share/libalpm/hooks") if "dracut" in h]
    return "dracut" if hooks and not presets else "mkinitcpio"


_GENERATORS: tuple[GeneratorName, ...] = ("mkinitcpio", "dracut")


def _mkinitcpio(ctx: Context, version: str | None) -> SystemImages:
    files = config_files(ctx)
    if not files:
        return SystemImages("mkinitcpio", version, problem=f"{paths.MKINITCPIO_CONFIG} is missing")
    try:
        arrays = evaluate(ctx, files)
    except CommandError as error:
        text = re.sub(r"\s*\n\s*", " ", error.message)
        problem = f"{files[0]}: bash can't read it: {text}"
        return SystemImages("mkinitcpio", version, sources=tuple(files), problem=problem)
    return SystemImages(
        generator="mkinitcpio",
        version=version,
        flavour="systemd" if "systemd" in arrays["HOOKS"] else "udev",
        hooks=arrays["HOOKS"],
        modules=arrays["MODULES"],
        binaries=arrays["BINARIES"],
        files=arrays["FILES"],
        sources=tuple(files),
    )


def config_files(ctx: Context) -> list[str]:
    """The user's configuration and its drop-ins, in the order in which mkinitcpio puts them together."""
    from kdump_pkg.facts.kernels import natural

    if not ctx.is_file(paths.MKINITCPIO_CONFIG):
        return []
    directory = f"{paths.MKINITCPIO_CONFIG}.d"
    names = sorted((n for n in ctx.names(directory) if n.endswith(".conf")), key=natural)
    return [paths.MKINITCPIO_CONFIG, *(f"{directory}/{n}" for n in names if ctx.is_file(f"{directory}/{n}"))]


def evaluate(ctx: Context, files: list[str]) -> dict[str, tuple[str, ...]]:
    """The four arrays as bash sees them. Raises CommandError with bash's own words (file and line)."""
    done = bash.run(ctx, EVALUATE, files)
    arrays: dict[str, list[str]] = {}
    current: list[str] = []
    tokens = done.text.split("\0")
    if "=END" not in tokens:
        raise CommandError("it ends the shell that reads it", hint="take the exit or return out of it")
    for token in tokens:
        if token.startswith("="):
            current = arrays.setdefault(token[1:], [])
        elif token.startswith("+"):
            current.append(token[1:])
    return {name: tuple(arrays.get(name, ())) for name in ARRAYS}
