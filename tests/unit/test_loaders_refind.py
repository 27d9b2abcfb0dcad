"""rEFInd: who booted, where its files are. What is edited is in tests/bootloaders."""

from __future__ import annotations

import pytest

from kdump_pkg.loaders import edit, refind
from kdump_pkg.model.bootloader import Firmware, Loader, NvramEntry, Place, Surroundings
from tests.corpus import Files

MAIN = "/boot/refind_linux.conf"
PAIR = b'"Arch" "root=/dev/vda2 rw"\n'
ESP = (Place("/esp", "esp"),)

NOWHERE = Surroundings()


def read(files: dict[str, bytes], around: Surroundings = NOWHERE) -> Loader:
    found = refind.read(Files(files), around)
    assert found is not None
    return found


def test_not_here_at_all() -> None:
    assert refind.read(Files({"/boot/vmlinuz-linux": b""}), Surroundings(live=True)) is None


@pytest.mark.parametrize(
    ("cmdline", "firmware", "evidence"),
    [
        (None, Firmware(loader_info="rEFInd 0.14.2"), "LoaderInfo says rEFInd 0.14.2"),
        (None, Firmware(loader_info="systemd-boot 257"), None),
        (None, Firmware(entry=NvramEntry("0004", "x", "/EFI/refind/refind_x64.efi")), "Boot0004 starts"),
        ("BOOT_IMAGE=/vmlinuz", Firmware(entry=NvramEntry("0004", "x", "/EFI/refind/refind_x64.efi")), None),
        (None, Firmware(loader_info="rEFInd 0.14.2", stub_info="systemd-stub 257"), None),
        ("root=/dev/vda2", Firmware(), None),
    ],
)
def test_booted_says_why(cmdline: str | None, firmware: Firmware, evidence: str | None) -> None:
    loader = read({MAIN: PAIR}, Surroundings(live=True, cmdline=cmdline, firmware=firmware))
    assert loader.booted == (evidence is not None)
    assert (evidence or f"{MAIN} is there") in loader.evidence
    assert not read({MAIN: PAIR}, Surroundings(cmdline=cmdline, firmware=firmware)).booted


@pytest.mark.parametrize(
    "path", [MAIN, "/esp/refind_linux.conf", "/esp/EFI/arch/refind_linux.conf", "/boot/EFI/arch/refind_linux.conf"]
)
def test_places(path: str) -> None:
    loader = read({path: PAIR}, Surroundings(places=ESP))
    assert [file.path for file in loader.files] == [path]
    assert loader.problem is None


@pytest.mark.parametrize(
    ("files", "around", "words"),
    [
        ({MAIN: b"\xff\xfe" + PAIR.decode().encode("utf-16-le")}, Surroundings(), f"{MAIN} is in UTF-16"),
        ({MAIN: PAIR}, Surroundings(places=(Place("/boot", readonly=True),)), "mount -o remount,rw /boot"),
        ({}, Surroundings(live=True, firmware=Firmware(loader_info="rEFInd 0.14.2")), "mkrlconf"),
        ({MAIN: b"# empty\n"}, Surroundings(), "mkrlconf"),
        (
            {},
            Surroundings(live=True, firmware=Firmware(loader_info="rEFInd 1"), places=(Place("/boot", mounted=False),)),
            "mount /boot",
        ),
        ({MAIN: PAIR}, Surroundings(roots=frozenset({"/dev/vdb9"})), "mkrlconf"),
    ],
)
def test_problems(files: dict[str, bytes], around: Surroundings, words: str) -> None:
    assert words in (read(files, around).problem or "")


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ('"t" "a b"', "a b"),
        ('t,"a b"', "a b"),
        ('"t"="a b"', "a b"),
        ('"t" "a ""b"" c"', 'a ""b"" c'),
        ('"t" "a b', "a b"),
        ('"t" a', "a"),
        ('"t" "" # x', ""),
        ('"t"', None),
        ('# "t" "a"', None),
        ("", None),
    ],
)
def test_pairs(line: str, options: str | None) -> None:
    data = line.encode()
    lines = read({MAIN: data}).lines
    assert [data[one.stretches[0].start : one.stretches[0].end].decode() for one in lines] == (
        [] if options is None else [options]
    )


@pytest.mark.parametrize(
    ("stanza", "own"),
    [
        ('menuentry A {\nloader /vmlinuz-linux\noptions "rw"\n}', ["A"]),
        ('menuentry A {\nloader \\EFI\\x\\bzImage.efi\noptions "rw"\n}', ["A"]),
        ('menuentry A {\nloader /EFI/Linux/arch.efi\noptions "root=/dev/vda2"\n}', ["A"]),
        ('menuentry A {\nloader /EFI/tools/x.efi\noptions "rw"\n}', []),
        ("menuentry A {\nloader /vmlinuz-linux\n}", []),
        (
            'menuentry A {\nloader /vmlinuz\noptions "x"\noptions "rw"\nsubmenuentry B {\noptions "ro"\n}\n}',
            ["A", "A > B"],
        ),
        ('menuentry A {\nloader /vmlinuz\noptions "rw"\nsubmenuentry B {\nadd_options "ro"\n}\n}', ["A"]),
        ('menuentry A {\ndisabled\nloader /vmlinuz\noptions "rw"\nsubmenuentry B {\noptions "ro"\n}\n}', []),
        ('options "rw"\nmenuentry A {\n}\noptions "ro"', []),
    ],
)
def test_stanzas(stanza: str, own: list[str]) -> None:
    loader = read({"/esp/EFI/refind/refind.conf": stanza.encode()}, Surroundings(places=ESP))
    assert [line.entry for line in edit.own_lines(loader)] == own
