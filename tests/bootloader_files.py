"""Boot-loader configurations that chance makes: one strategy for each format, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from kdump_pkg.model.bootloader import Firmware, Place, Preset, Surroundings
from tests.corpus import Files

Lines = st.SearchStrategy[list[str]]
SOME = [
    "quiet",
    "rw",
    "root=UUID=0f0e0d0c-1111-2222-3333-444455556666",
    "video=DP-1:1920×1080",
    "loglevel=3",
    "--",
    "-",
]
WORDS = st.sampled_from(SOME) | st.text("abz019.=_:,é日%+/@-", min_size=1, max_size=8)
PARAMETERS = st.sampled_from(["64M", "1G-4G:96M,4G-:512M@16M", "512M,high", "72M,low", "128M,cma"]).map(
    lambda value: f"crashkernel={value}"
)
GAPS = st.sampled_from([" ", " ", "  ", "\t"])
COMMENTS = st.sampled_from(["", "  ", "# größer", "#crashkernel=1M", "# \"quoted' and not", "\t# tab"])


@st.composite
def cmdlines(draw: st.DrawFn, least: int = 0) -> str:
    """Some words, sometimes with reservations among them, blanks around them."""
    words = draw(st.lists(WORDS, min_size=least, max_size=4))
    if draw(st.integers(0, 3)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(PARAMETERS))
        words += draw(st.lists(PARAMETERS, max_size=1))
    return draw(GAPS).join(words) + (draw(st.sampled_from(["", "", " "])) if words else "")


def blocks(*kinds: st.SearchStrategy[str], least: int = 1) -> Lines:
    """Pieces of a file in any order, comments and empty lines between."""
    return st.lists(st.one_of(*kinds, COMMENTS), min_size=least, max_size=7)


@st.composite
def quoted(draw: st.DrawFn, name: str) -> str:
    """An assignment in one of the shell's manners, maybe with something behind."""
    value = draw(cmdlines())
    text = draw(st.sampled_from([f'"{value}"', f"'{value}'", value.replace(" ", "\\ ").replace("\t", "\\\t")]))
    if draw(st.booleans()):
        text += draw(st.sampled_from(['" more"', "' more'", "more", '""', '" "', '"\\\n"', '" \\\nmore"']))
    return (
        f"{name}{draw(st.sampled_from(['=', '=', '+=']))}{text}{draw(st.sampled_from(['', ' ', '  # why', '; A=1']))}"
    )


def shell_file(*names: str) -> Lines:
    return blocks(*map(quoted, names), st.sampled_from(["GRUB_TIMEOUT=5", 'A="b # c"', "export B='x y'", "unset C"]))


def entry_tool() -> Lines:
    """No shell reads it: values have double quotes, and nothing comes behind."""
    name = st.sampled_from(["KERNEL_CMDLINE[default]=", "KERNEL_CMDLINE[default]+=", 'KERNEL_CMDLINE["linux"] = '])
    return blocks(st.builds(lambda start, text: f'{start}"{text}"', name, cmdlines()))


def entry() -> Lines:
    options = cmdlines().map(lambda text: f"options {text}")
    return blocks(options, st.sampled_from(["title Größe", "sort-key arch", "options"])).map(
        lambda lines: ["linux /vmlinuz-linux", *lines]
    )


def limine() -> Lines:
    start = st.sampled_from(["/Arch", "//Größe", "/+Menu"])
    kernel = st.sampled_from(["protocol: linux", "path: boot():/vmlinuz-linux", "comment: none"])
    return blocks(start, kernel, cmdlines().map(lambda text: f"    cmdline: {text}")).map(
        lambda lines: ["/One", "protocol: linux", "path: boot():/vmlinuz-linux", "cmdline: rw", *lines]
    )


def syslinux() -> Lines:
    append = st.builds(
        lambda key, text: f"  {key} {text}", st.sampled_from(["APPEND", "append", "Append\t"]), cmdlines()
    )
    other = [
        "LABEL größer",
        "LINUX ../vmlinuz-linux",
        "kernel /vmlinuz",
        "COM32 reboot.c32",
        "MENU LABEL x",
        "INITRD y",
    ]
    return blocks(append, st.sampled_from(other)).map(
        lambda lines: [*lines, "LABEL arch", "LINUX ../vmlinuz-linux", "APPEND rw"]
    )


def refind_linux() -> Lines:
    text = cmdlines()
    pair = st.builds(lambda title, options: f'"{title}"\t"{options}"', st.sampled_from(["Arch", 'gr""öße""', ""]), text)
    return blocks(pair, WORDS.map(lambda word: f"Title {word}"))


def refind() -> Lines:
    options = cmdlines().map(lambda text: f'  options "{text}"')
    other = ["menuentry Arch {", '  submenuentry "b c" {', "}", "  loader /vmlinuz-linux", "  disabled", "timeout 5"]
    return blocks(options, st.sampled_from(other)).map(
        lambda lines: ["menuentry x {", " loader /vmlinuz-linux", ' options "rw"', *lines]
    )


def only_words() -> Lines:
    return blocks(cmdlines())


def startup_nsh() -> Lines:
    line = cmdlines(1).map(lambda text: f"vmlinuz-linux {text}")
    return blocks(line, st.sampled_from(["@echo -off", "fs0:"])).map(lambda lines: [*lines, "vmlinuz-linux rw"])


@dataclass(frozen=True)
class Format:
    """Where a generated file stands, and what has to be around it so that it counts."""

    loader: str
    path: str
    lines: Callable[[], Lines]
    around: Surroundings
    beside: tuple[tuple[str, bytes], ...] = ()


PLACES = (Place("/boot", "esp"), Place("/efi", "esp"))
AROUND = Surroundings(places=PLACES)
PROGRAMS = frozenset({"grub-mkconfig", "sdboot-manage", "limine-update", "limine-mkinitcpio"})
GRUB_CFG = b"### BEGIN /etc/grub.d/10_linux ###\nmenuentry 'Arch' {\n\tlinux /vmlinuz-linux rw\n}\n"
PRESET = Preset("/etc/mkinitcpio.d/linux.preset", "default", "/efi/EFI/Linux/arch-linux.efi")
FORMATS = {
    "grub": Format(
        "grub", "/etc/default/grub", lambda: shell_file("GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX"),
        Surroundings(programs=PROGRAMS), (("/boot/grub/grub.cfg", GRUB_CFG),),
    ),
    "systemd-boot": Format("systemd-boot", "/boot/loader/entries/arch.conf", entry, AROUND),
    "sdboot-manage": Format(
        "sdboot-manage", "/etc/sdboot-manage.conf", lambda: shell_file("LINUX_OPTIONS", "LINUX_FALLBACK_OPTIONS"),
        Surroundings(programs=PROGRAMS, places=PLACES), (("/boot/loader/loader.conf", b"timeout 5\n"),),
    ),
    "uki": Format("uki", "/etc/kernel/cmdline", only_words, Surroundings(places=PLACES, presets=(PRESET,))),
    "limine": Format("limine", "/boot/limine.conf", limine, AROUND),
    "limine-entry-tool": Format(
        "limine-entry-tool", "/etc/default/limine", entry_tool,
        Surroundings(programs=PROGRAMS, places=PLACES, firmware=Firmware(loader_info="Limine 10.3.0")),
        (("/boot/limine.conf", b"/+Arch\n"),),
    ),
    "refind-linux": Format("refind", "/boot/refind_linux.conf", refind_linux, AROUND),
    "refind": Format("refind", "/efi/EFI/refind/refind.conf", refind, AROUND),
    "syslinux": Format("syslinux", "/boot/syslinux/syslinux.cfg", syslinux, AROUND),
    "efistub": Format("efistub", "/efi/startup.nsh", startup_nsh, AROUND),
}  # fmt: skip


@st.composite
def files(draw: st.DrawFn, one: Format) -> Files:
    """With LF or CRLF, in UTF-8 or where that goes in Latin-1, with and without an end of the last line."""
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    text = "\n".join(draw(one.lines())).replace("\n", end) + draw(st.sampled_from([end, end, ""]))
    encoding = draw(st.sampled_from(["utf-8", "latin-1"]))
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        data = text.encode()
    return Files({one.path: data, **dict(one.beside)})
