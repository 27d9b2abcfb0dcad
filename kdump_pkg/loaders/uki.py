"""Unified kernel images: what their command line is made from, and who makes them anew.

A first file in /etc/cmdline.d would be the whole command line, without root=, where there is no /etc/kernel/cmdline.
So the word goes into what is there already; where nothing is, into a new /etc/kernel/cmdline that has all the rest too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kdump_pkg.loaders import Look, cmdline_files, limine_entry_tool, places, shell, sourced, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Loader, Preset, Result, Surroundings, TextFile

DROP_INS = "/etc/cmdline.d"
INSTALL_CONF = tuple(f"{home}/kernel/install.conf" for home in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
DRACUT = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")
DRACUT_MAIN = "/etc/dracut.conf"
DRACUT_VARIABLE = "kernel_cmdline"
BY_HAND = "put crashkernel=… into what its command line is made from, and make it anew"


def read(look: Look, around: Surroundings) -> Loader | None:
    """Who makes the images: presets of mkinitcpio, kernel-install, dracut, in this order."""
    for maker in (_mkinitcpio, _kernel_install, _dracut, _unknown):
        loader = maker(look, around)
        if loader:
            trouble = places.problem(around, (result.path for result in loader.results))
            return replace(loader, problem=loader.problem or trouble)
    return None


def _loader(around: Surroundings, maker: str, images: Iterable[str]) -> Loader:
    results = tuple(Result(path, "uki") for path in dict.fromkeys(images))
    stub = around.firmware.stub_info
    evidence = f"StubInfo says {stub}" if stub else f"{maker} makes {', '.join(one.path for one in results)}"
    return Loader("uki", f"unified kernel image, by {maker}", evidence, booted=bool(stub), results=results)


def _images(look: Look, around: Surroundings) -> list[str]:
    """Those that systemd-boot lists by itself, and firmware is usually told to start."""
    homes = [f"{place}/EFI/Linux" for place in places.mounted(around)]
    return [f"{home}/{name}" for home in homes for name in look.names(home) if name.lower().endswith(".efi")]


# --- mkinitcpio ---------------------------------------------------------------------------------------------------


def _mkinitcpio(look: Look, around: Surroundings) -> Loader | None:
    """Only the presets that make such images are run: others, ours too, have nothing to do with it."""
    presets = [preset for preset in around.presets if preset.uki]
    if not presets:
        return None
    files: dict[str, TextFile] = {}
    lines: list[CommandLine] = []
    problem = None
    for source in dict.fromkeys(preset.cmdline for preset in presets):
        read, line, lack = _source(look, around, source)
        files |= {file.path: file for file in read}
        lines += [line] if line else []
        problem = problem or lack
    return replace(
        _loader(around, "mkinitcpio", (preset.uki for preset in presets)),
        files=tuple(files.values()),
        lines=tuple(lines),
        regenerate=tuple(("mkinitcpio", "-p", name) for name in dict.fromkeys(map(_name, presets))),
        problem=problem,
    )


def _name(preset: Preset) -> str:
    return preset.file.rpartition("/")[2].removesuffix(".preset")


def _source(look: Look, around: Surroundings, source: str) -> tuple[list[TextFile], CommandLine | None, str | None]:
    """SOURCE is what a preset names instead: a file, or a directory in the place of /etc/cmdline.d (mkinitcpio(8))."""
    if source and look.is_file(source):
        return _edited(text_files(look, [source]))
    base = [] if source else cmdline_files.base(look)
    parts = text_files(look, _parts(look, source or DROP_INS))
    if parts and (not base or base[0].path == cmdline_files.USR):
        return _edited([*base, *parts], parts[-1].path)
    if source and not parts:
        return [], None, f"{source}, which a preset of mkinitcpio takes the command line from, isn't there; write it"
    return _edited([*base, *parts]) if base and base[0].path == cmdline_files.ETC else _made(around, base)


def _parts(look: Look, directory: str) -> list[str]:
    """All *.conf in and below a directory, numbers in their names by their value: as `find` and `sort -V` give them."""
    found = [f"{directory}/{name}" for name in look.names(directory)]
    files = [path for path in found if path.endswith(".conf") and look.is_file(path)]
    below = [path for home in found if not look.is_file(home) for path in _parts(look, home)]
    return sorted([*files, *below], key=_version)


def _version(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path)]


def _edited(files: list[TextFile], path: str = "") -> tuple[list[TextFile], CommandLine, None]:
    """The word comes into PATH, else the first one."""
    own = cmdline_files.stretches(files)
    path = path or files[0].path
    return files, CommandLine(path, own, cmdline_files.grow(files, own, path)), None


def _made(around: Surroundings, base: list[TextFile]) -> tuple[list[TextFile], CommandLine | None, str | None]:
    """A new /etc/kernel/cmdline with all that is in the package's, or of the running command line."""
    own = cmdline_files.stretches(base)
    text, lack = words.text(base[0].data or b"", own) if base else "", None
    if not base:
        text, lack = cmdline_files.running(around, started=bool(around.firmware.stub_info))
    if lack:
        return [], None, f"the image has no {cmdline_files.ETC} to take its command line from: {lack}"
    new, grow = cmdline_files.copy(text)
    return [*base, new], CommandLine(new.path, own, grow), None


# --- kernel-install -----------------------------------------------------------------------------------------------


def _kernel_install(look: Look, around: Surroundings) -> Loader | None:
    """Layout uki. With ukify, and with all but the two below, /etc/cmdline.d is not looked at (60-ukify.install)."""
    setting = _install_conf(look)
    images = _images(look, around)
    if setting.get("layout") != "uki" or "kernel-install" not in around.programs or not images:
        return None
    generator = setting.get("uki_generator", "ukify")
    made = replace(
        _loader(around, "kernel-install", _of_this_system(look, around, images)),
        regenerate=(("kernel-install", "add-all"),),
    )
    if generator == "dracut":
        return _dracut_line(look, made)
    base = cmdline_files.base(look)
    if generator == "mkinitcpio":
        files, line, lack = _source(look, around, "")
    elif base and base[0].path == cmdline_files.ETC:
        files, line, lack = _edited(base)
    else:
        files, line, lack = _made(around, base)
    return replace(made, files=tuple(files), lines=(line,) if line else (), problem=lack)


def _install_conf(look: Look) -> dict[str, str]:
    """The first install.conf, and what the files in the directories of that name change of it."""
    main = next((data for path in INSTALL_CONF if (data := look.read_bytes(path)) is not None), b"")
    inside = {name: f"{path}.d/{name}" for path in reversed(INSTALL_CONF) for name in look.names(f"{path}.d")}
    more = [look.read_bytes(inside[name]) or b"" for name in sorted(inside) if name.endswith(".conf")]
    text = b"\n".join([main, *more]).decode("utf-8", "replace")
    return dict(re.findall(r"^[ \t]*(layout|uki_generator)[ \t]*=[ \t]*\"?(\w+)", text, re.M))


def _of_this_system(look: Look, around: Surroundings, images: Sequence[str]) -> list[str]:
    """Named by the entry token; all of them where none is."""
    token = (look.read_bytes("/etc/kernel/entry-token") or b"").decode("utf-8", "replace").strip() or around.machine_id
    named = [path for path in images if token and path.rpartition("/")[2].startswith(f"{token}-")]
    return named or list(images)


# --- dracut -------------------------------------------------------------------------------------------------------


def _dracut(look: Look, around: Surroundings) -> Loader | None:
    """Its own name for an image has the machine ID; those of other names are made by somebody's script."""
    files = _dracut_files(look)
    values, _ = sourced.read(files)
    images = _images(look, around)
    if "dracut" not in around.programs or values.value("uefi").lower() != "yes" or not images:
        return None
    named = [path for path in images if path.rpartition("/")[2].startswith("linux-") and around.machine_id in path]
    made = _dracut_line(look, _loader(around, "dracut", named or images))
    if not named:
        return replace(made, problem=f"{images[0]} is named as dracut doesn't name it; {BY_HAND}")
    return replace(made, regenerate=(("dracut", "--regenerate-all", "--force"),))


def _dracut_files(look: Look) -> list[TextFile]:
    """By their names; of two with one name, that in /etc counts."""
    paths = {name: f"{home}/{name}" for home in reversed(DRACUT) for name in look.names(home)}
    inside = (paths[name] for name in sorted(paths, key=_version) if name.endswith(".conf"))
    return text_files(look, (DRACUT_MAIN, *inside))


def _dracut_line(look: Look, made: Loader) -> Loader:
    files = _dracut_files(look)
    values, broken = sourced.read(files)
    last = values.last(DRACUT_VARIABLE)
    if broken or last is None:
        lack = f'no {DRACUT_VARIABLE}= in {DRACUT[0]}; write the whole command line there: {DRACUT_VARIABLE}="root=… …"'
        return replace(made, problem=broken or lack)
    grow = shell.grow(values.data[last.path], last)
    line = CommandLine(DRACUT_VARIABLE, values.stretches(DRACUT_VARIABLE), grow)
    return replace(made, files=tuple(files), lines=(line,))


# --- nobody -------------------------------------------------------------------------------------------------------


def _unknown(look: Look, around: Surroundings) -> Loader | None:
    """Images that nothing here says how to make; limine-entry-tool makes its own."""
    images = _images(look, around)
    if not (images or around.firmware.stub_info) or limine_entry_tool.at_home(look, around):
        return None
    problem = f"{images[0]} was made by nothing that is known here; {BY_HAND}" if images else None
    lack = places.unmounted(around) or f"there is no image in EFI/Linux of {', '.join(places.mounted(around))}"
    return replace(_loader(around, "something else", images), problem=problem or lack)
