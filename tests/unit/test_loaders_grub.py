"""GRUB: who booted, where its grub.cfg is, what of it is for us. What is edited is in tests/bootloaders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kdump_pkg.loaders import edit, grub, grub_cfg, shell
from kdump_pkg.model.bootloader import Firmware, Loader, NvramEntry, Place, Result, Surroundings
from tests import corpus
from tests.corpus import Files

ROOT = "UUID=0f0e0d0c-1111-2222-3333-444455556666"
CFG = f"""\
### BEGIN /etc/grub.d/00_header ###
if [ -s $prefix/grubenv ]; then
  load_env
fi
### END /etc/grub.d/00_header ###

### BEGIN /etc/grub.d/10_linux ###
menuentry 'Arch Linux' --class arch $menuentry_id_option 'gnulinux-simple-0f0e' {{
    if [ x$feature_platform_search_hint = xy ]; then
      search --no-floppy --fs-uuid --set=root aaaa
    fi
    linux	/vmlinuz-linux root={ROOT} rw  loglevel=3 quiet crashkernel=256M
    initrd	/initramfs-linux.img
}}
submenu 'Advanced options for Arch Linux' $menuentry_id_option 'gnulinux-advanced' {{
    menuentry 'Arch Linux, with Linux linux-lts, it'\\''s older' --class arch {{
        linux	/vmlinuz-linux-lts root={ROOT} rw  quiet crashkernel=256M
    }}
    menuentry 'Arch Linux, with Linux linux-lts (recovery mode)' --class arch {{
        linux	/vmlinuz-linux-lts root={ROOT} rw single
    }}
}}
### END /etc/grub.d/10_linux ###

### BEGIN /etc/grub.d/30_os-prober ###
menuentry "Debian (on /dev/vdb1)" {{
    linux /boot/vmlinuz-6.1 root=UUID=99999999-1111-2222-3333-444455556666 ro
}}
### END /etc/grub.d/30_os-prober ###

### BEGIN /etc/grub.d/40_custom ###
menuentry Mine {{
    linuxefi /vmlinuz-linux root={ROOT}
}}
### END /etc/grub.d/40_custom ###

### BEGIN /etc/grub.d/41_snapshots-btrfs ###
submenu 'Arch Linux snapshots' {{
    configfile "${{prefix}}/grub-btrfs.cfg"
}}
### END /etc/grub.d/41_snapshots-btrfs ###

### BEGIN /etc/grub.d/60_memtest86+ ###
menuentry "Memory test" {{
    linux16 /memtest86+/memtest.bin
}}
### END /etc/grub.d/60_memtest86+ ###
"""
DEFAULTS = {"/etc/default/grub": b'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'}
MAIN = "/boot/grub/grub.cfg"
AROUND = Surroundings(roots=frozenset({ROOT}), programs=frozenset({"grub-mkconfig"}))


def read(files: dict[str, bytes], around: Surroundings = AROUND) -> Loader:
    found = grub.read(Files({**DEFAULTS, **files}), around)
    assert found is not None
    return found


def live(cmdline: str | None = None, **firmware: object) -> Surroundings:
    return Surroundings(
        live=True, cmdline=cmdline, roots=AROUND.roots, programs=AROUND.programs, firmware=Firmware(**firmware)  # type: ignore[arg-type]
    )  # fmt: skip


def test_entries_of_grub_cfg() -> None:
    assert [(line.entry, line.foreign) for line in grub_cfg.read(CFG.encode())] == [
        ("Arch Linux", None),
        ("Advanced options for Arch Linux > Arch Linux, with Linux linux-lts, it's older", None),
        ("Advanced options for Arch Linux > Arch Linux, with Linux linux-lts (recovery mode)", "it is for recovery"),
        ("Debian (on /dev/vdb1)", "it starts another system"),
        ("Mine", "it is from /etc/grub.d/40_custom"),
        ("Memory test", "it starts no Linux"),
    ]
    assert grub_cfg.read(CFG.encode())[0].text == f"root={ROOT} rw  loglevel=3 quiet crashkernel=256M"


def test_recovery_entries_are_known_by_their_id_too() -> None:
    """GRUB_CMDLINE_LINUX_RECOVERY may put something else in the place of `single`."""
    data = CFG.replace("(recovery mode)' --class", "(Wartung)' $menuentry_id_option 'gnulinux-x-recovery-0f0e' --class")
    found = grub_cfg.read(data.replace(" rw single", " rw rescue").encode())
    assert [line.foreign for line in found[:4]] == [None, None, "it is for recovery", "it starts another system"]


def test_lines_outside_of_sections_are_nobody_s() -> None:
    (line,) = grub_cfg.read(b"menuentry x {\n linux /vmlinuz root=/dev/vda2\n}\n")
    assert line.foreign == "it was written by hand"
    assert grub_cfg.read(b"") == ()


def test_not_here_at_all() -> None:
    assert grub.read(Files({"/boot/vmlinuz-linux": b""}), AROUND) is None


def test_regenerates_where_grub_cfg_is() -> None:
    loader = read({MAIN: CFG.encode()})
    assert loader.regenerate == (("grub-mkconfig", "-o", MAIN),)
    assert loader.results == (Result(MAIN, "grub.cfg"),)
    assert loader.problem is None
    assert not loader.booted


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("/boot/grub/grub.cfg", ()),
        ("/boot/grub2/grub.cfg", ()),
        ("/efi/grub/grub.cfg", ()),
        ("/boot/efi/grub/grub.cfg", ()),
        ("/boot/efi/EFI/arch/grub.cfg", ()),
        ("/boot/EFI/GRUB/grub.cfg", (Place("/boot", "esp"),)),
        ("/esp/grub/grub.cfg", (Place("/esp", "esp"),)),
        ("/esp/EFI/arch/grub.cfg", (Place("/esp", "esp"),)),
    ],
)
def test_places_of_grub_cfg(path: str, places: tuple[Place, ...]) -> None:
    around = Surroundings(roots=AROUND.roots, programs=AROUND.programs, places=places)
    assert read({path: CFG.encode()}, around).regenerate == (("grub-mkconfig", "-o", path),)


def test_another_system_s_grub_cfg_on_the_esp_is_left_alone() -> None:
    theirs = CFG.replace(ROOT, "UUID=99999999-1111-2222-3333-444455556666").encode()
    loader = read({MAIN: CFG.encode(), "/boot/efi/EFI/fedora/grub.cfg": theirs, "/efi/grub/grub.cfg": theirs})
    assert loader.regenerate == (("grub-mkconfig", "-o", MAIN),)
    unknown = Surroundings(programs=AROUND.programs)  # nobody knows whose it is then
    assert read({"/efi/EFI/arch/grub.cfg": CFG.encode()}, unknown).regenerate == ()


def test_two_of_ours_are_both_generated() -> None:
    loader = read({MAIN: CFG.encode(), "/efi/grub/grub.cfg": CFG.encode()})
    assert [argv[-1] for argv in loader.regenerate] == [MAIN, "/efi/grub/grub.cfg"]
    assert len(loader.results) == 2


@pytest.mark.parametrize(
    ("files", "around", "words"),
    [
        ({}, AROUND, "there is no grub.cfg of this system in /boot/grub: grub-mkconfig -o /boot/grub/grub.cfg"),
        (
            {},
            Surroundings(places=(Place("/boot", "esp", mounted=False),), programs=AROUND.programs),
            "mount /boot",
        ),
        ({MAIN: CFG.encode()}, Surroundings(), "grub-mkconfig isn't there: pacman -S grub"),
        (
            {MAIN: CFG.encode()},
            Surroundings(places=(Place("/boot", "esp", readonly=True),), programs=AROUND.programs),
            "mount -o remount,rw /boot",
        ),
        ({MAIN: b"menuentry Arch {\n linux /vmlinuz\n}\n"}, AROUND, f"{MAIN} wasn't made by grub-mkconfig"),
        ({"/efi/EFI/arch/grub.cfg": b"configfile /grub/grub.cfg\n"}, AROUND, "there is no grub.cfg of this system"),
    ],
)
def test_problems(files: dict[str, bytes], around: Surroundings, words: str) -> None:
    loader = read(files, around)
    assert words in (loader.problem or "")
    assert edit.reserve(loader, ("256M",)) == ()


@pytest.mark.parametrize(
    ("around", "evidence"),
    [
        (live(loader_info="GRUB 2.12"), "LoaderInfo says GRUB 2.12"),
        (live("BOOT_IMAGE=/vmlinuz-linux", loader_info="systemd-boot 257.9"), None),
        (live(entry=NvramEntry("0003", "arch", "/EFI/GRUB/grubx64.efi")), "Boot0003 starts /EFI/GRUB/grubx64.efi"),
        (
            live("BOOT_IMAGE=/vmlinuz-linux root=/dev/vda2"),
            "started as BOOT_IMAGE=/vmlinuz-linux, which is in grub.cfg",
        ),
        (live("BOOT_IMAGE=(hd0,gpt2)/vmlinuz-linux rw"), "started as BOOT_IMAGE=(hd0,gpt2)/vmlinuz-linux"),
        (live("BOOT_IMAGE=/vmlinuz-linux", entry=NvramEntry("0001", "x", "/EFI/shim/shimx64.efi")), "BOOT_IMAGE="),
        (live("BOOT_IMAGE=/other/vmlinuz root=/dev/vda2"), None),
        (live("BOOT_IMAGE=../vmlinuz-linux root=/dev/vda2"), None),
        (live("root=/dev/vda2 rw"), None),
        (live(None), None),
        (live(loader_info="GRUB 2.12", stub_info="systemd-stub 257.9"), None),
        (Surroundings(cmdline="BOOT_IMAGE=/vmlinuz-linux", programs=AROUND.programs), None),
        (Surroundings(firmware=Firmware(loader_info="GRUB 2.12"), programs=AROUND.programs), None),
    ],
)
def test_booted_says_why(around: Surroundings, evidence: str | None) -> None:
    loader = read({MAIN: CFG.encode()}, around)
    assert loader.booted == (evidence is not None)
    assert (evidence or f"{MAIN} is there") in loader.evidence


# --- assignments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("A='b c'\"d e\"f", "b cd ef"),
        ('A="b \\" c"', 'b \\" c'),
        ("A=b#c # d", "b#c"),
        ("A='b\nc'", "b\nc"),
        ('A="b \\\n c"', "b  c"),
        ("A=b;B=c", "b"),
        ("A=b&&B=c", "b"),
        ("A=$(echo '(' \"$(echo ')')\") B=c", "$(echo '(' \"$(echo ')')\")"),
        ("A=`echo \\`x\\`` B=c", "`echo \\`x\\``"),
        ("A=${B:-'}'}", "${B:-'}'}"),
        ("A=$((1 + (2)))", "$((1 + (2)))"),
        ("A=a\\ b\\;c", "a\\ b\\;c"),
        ("A=b\\\nc", "bc"),
        ("A={a,b}", "{a,b}"),
        ("{ A=b; }", "b"),
        ("x=y A=b", "b"),
        ("declare -x A=b", "b"),
        ("if true; then A=b; fi", "b"),
        ("A=b\r\n", "b"),
        ("A=größer", "größer"),
        ("\ufeffA=b", "b"),
        ("echo A=b", None),
        ("# A=b", None),
        ("'A'=b", None),
        ("B='\nA=b'", None),
        ("AA=b", None),
    ],
)
def test_assignments(text: str, value: str | None) -> None:
    data = text.encode()
    found = [one.value(data).decode() for one in shell.assignments("f", data) if one.name == "A"]
    assert found == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("text", "offset"), [("A='b", 2), ('A="b', 2), ("A=`b", 2), ("A=$(b", 2), ('A="${b', 3), ("A='b'\n'c", 6)]
)
def test_what_nothing_closes(text: str, offset: int) -> None:
    with pytest.raises(shell.Unreadable) as raised:
        list(shell.assignments("f", text.encode()))
    assert raised.value.args == (offset,)


# --- what a real shell makes of it --------------------------------------------------------------------------------

SHOW = 'for file; do . "$file"; done; printf "%s %s" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
SOURCED = [name for name in corpus.CASES if name.startswith("grub-") and name != "grub-dropin-sourced"]


def evaluated(shell_name: str, directory: Path, files: list[bytes]) -> list[str]:
    """The words of the command line of all entries but for recovery, as grub-mkconfig gets them."""
    for number, data in enumerate(files):
        (directory / str(number)).write_bytes(data)
    paths = [f"{directory}/{number}" for number in range(len(files))]
    argv = [shell_name, "-c", SHOW, shell_name, *paths]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    return done.stdout.decode("utf-8", "surrogateescape").split()


@pytest.mark.spawns
@pytest.mark.parametrize("name", SOURCED)
def test_a_shell_sees_one_word_more(name: str, tmp_path: Path) -> None:
    """bash is /bin/sh on Arch; dash isn't far from what others have."""
    case = corpus.load(name)
    loader = grub.read(case.files, case.around)
    assert loader is not None
    edits = {one.path: one.after for one in edit.reserve(loader, ("256M",))}
    shells = [name for name in ("bash", "dash") if shutil.which(name)]
    assert shells
    for one in shells if edits else ():
        if one == "dash" and (b"+=" in loader.data(grub.DEFAULTS) or b"$'" in loader.data(grub.DEFAULTS)):
            continue
        before, after = (
            evaluated(one, tmp_path, [files.get(file.path, file.data or b"") for file in loader.files])
            for files in ({}, edits)
        )
        after.remove("crashkernel=256M")
        assert after == before
