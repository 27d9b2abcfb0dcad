"""Which unified kernel images mkinitcpio's presets make, and from which command line, as bash reads them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.facts import bash
from kdump_pkg.model.bootloader import Preset

MENTIONS = re.compile(rb"^[^#\n]*(?:uki|efi_image|-U)", re.MULTILINE)
"""The template that mkinitcpio's hook makes presets from has all of it in comments."""

# Each file in a subshell of its own, so that one that fails or ends the shell takes no other along; one that never ends
# is ended by the kernel after two seconds, for our own time limit reaches only the shell above it. The fields of one
# image are as many as FIELDS; a preset's own output goes where it can't be taken for ours.
FIELDS = 6
EVALUATE = r"""
cd /
exec 3>&1 1>&2
for file; do
    (
        ulimit -t 2
        . "$file" || exit
        set +eu
        IFS=$' \t\n'
        for name in "${PRESETS[@]}"; do
            [[ $name =~ ^[A-Za-z0-9_]+$ ]] || continue
            uki="${name}_uki" old="${name}_efi_image" image="${name}_image" cmdline="${name}_cmdline"
            declare -n options="${name}_options"
            printf '%s\0' "$file" "$name" "${!uki:-${ALL_uki:-${!old:-$ALL_efi_image}}}" "${!image}" \
                "${!cmdline:-$ALL_cmdline}" "${options[*]}" >&3
            unset -n options
        done
    )
done
exit 0
"""


def read_presets(ctx: Context) -> tuple[Preset, ...]:
    """All images of all presets but our own; none, and no bash, where no preset is for a unified kernel image."""
    names = (n for n in ctx.names(paths.PRESET_DIR) if n.endswith(".preset"))
    files = [file for n in names if (file := f"{paths.PRESET_DIR}/{n}") != paths.PRESET and ctx.is_file(file)]
    if not any(MENTIONS.search(ctx.read_bytes(file) or b"") for file in files):
        return ()
    try:
        done = bash.run(ctx, EVALUATE, files)
    except CommandError:
        return ()  # mkinitcpio can't read them either, and says so itself
    words = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return tuple(_preset(*words[i : i + FIELDS]) for i in range(0, len(words) - FIELDS + 1, FIELDS))


def _preset(file: str, name: str, uki: str, image: str, cmdline: str, options: str) -> Preset:
    """What stands in its options comes after the rest and so counts more."""
    for option, value in _options(options):
        if option in ("-U", "--uki", "--uefi"):
            uki = value
        elif option == "--cmdline":
            cmdline = value
        elif option == "--no-cmdline":
            uki = ""  # such an image holds no command line: it is its boot loader's business
    return Preset(file, name, uki, image, cmdline)


def _options(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of a word and its value, be that its own end or the next word."""
    words = text.split()
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        option, equals, value = word.partition("=")
        yield option, value if equals else after
