"""The generated texts: deterministic, quoted, checked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import config, paths, render
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.state import read_own_file
from kdump_pkg.model import Config, Layer, Level, Retention, SystemImages, Target, TraceRecord, Watchdog
from kdump_pkg.options import OPTIONS, TARGET_OPTIONS, UPLOAD_OPTIONS, VARIANT_OPTIONS
from tests.fakes import BUILD_ID, DEFAULTS, MKINITCPIO_HOOKS, kernel, make_tree, target

IMAGES = SystemImages(
    "mkinitcpio", "41", "systemd", MKINITCPIO_HOOKS, ("dm_crypt",), ("/usr/bin/x y",), ("/etc/key",),
    sources=("/etc/mkinitcpio.conf", "/etc/mkinitcpio.conf.d/a.conf"),
)  # fmt: skip


PARTS = render.Parts(
    kernel=kernel(),
    flavour="direct",
    modules=("ext4", "x?"),
    insmod=("a.ko", "b.ko"),
    applets=("sh", "dd"),
    binaries=("makedumpfile", "lvm"),
    hooks=("/etc/kdump-pkg/pre.d/a",),
    level=Level(31, None),
    makedumpfile="1.7.9-1",
    watchdog=Watchdog("/dev/watchdog0", "wdt", 30),
    record=TraceRecord("UUID=1", 4096, "ab" * 16),
)


def env(where: Target | None = None, config: Config = DEFAULTS) -> bytes:
    return render.capture_env(config, (where or target(),), PARTS, "ab" * 32)


def test_capture_file_is_the_agreed_one() -> None:
    layers = (Layer("md", "1:2"), Layer("lvm", "vg/lv"))
    second = target(name="esp", fstype="vfat", layers=layers, save="dmesg", retention=Retention(1, 2, "3", "4%"))
    made = render.capture_env(DEFAULTS, (target(mounted="/var/crash"), second), PARTS, "ab" * 32)
    assert made.decode() == (
        "KDUMP_FORMAT='2'\n"
        f"KDUMP_FINGERPRINT='{'ab' * 32}'\n"
        f"KDUMP_RELEASE='{kernel().release}'\n"
        "KDUMP_FLAVOUR='direct'\n"
        "KDUMP_CAPTURE='image'\n"
        "KDUMP_MODULES='ext4 x?'\n"
        "KDUMP_INSMOD='a.ko b.ko'\n"
        "KDUMP_APPLETS='sh dd'\n"
        "KDUMP_BINARIES='makedumpfile lvm'\n"
        "KDUMP_HOOKS='/etc/kdump-pkg/pre.d/a'\n"
        "KDUMP_TARGETS='2'\n"
        "KDUMP_TARGET_1_NAME='root'\n"
        f"KDUMP_TARGET_1_DEVICE='{target().device}'\n"
        "KDUMP_TARGET_1_FSTYPE='ext4'\n"
        "KDUMP_TARGET_1_OPTIONS=''\n"
        "KDUMP_TARGET_1_PATH='/var/crash'\n"
        "KDUMP_TARGET_1_LAYERS=''\n"
        "KDUMP_TARGET_1_DEVICES='1'\n"
        "KDUMP_TARGET_1_MOUNTED=''\n"
        "KDUMP_TARGET_1_SAVE='all'\n"
        "KDUMP_TARGET_1_DEVICE_TIMEOUT='30'\n"
        "KDUMP_TARGET_1_TIMEOUT='600'\n"
        "KDUMP_TARGET_1_KEEP='5'\n"
        "KDUMP_TARGET_1_MAX_AGE='0'\n"
        "KDUMP_TARGET_1_MAX_USE='0'\n"
        "KDUMP_TARGET_1_KEEP_FREE='5%'\n"
        "KDUMP_TARGET_2_NAME='esp'\n"
        f"KDUMP_TARGET_2_DEVICE='{target().device}'\n"
        "KDUMP_TARGET_2_FSTYPE='vfat'\n"
        "KDUMP_TARGET_2_OPTIONS=''\n"
        "KDUMP_TARGET_2_PATH='/var/crash'\n"
        "KDUMP_TARGET_2_LAYERS='md:1:2 lvm:vg/lv'\n"
        "KDUMP_TARGET_2_DEVICES='1'\n"
        "KDUMP_TARGET_2_MOUNTED=''\n"
        "KDUMP_TARGET_2_SAVE='dmesg'\n"
        "KDUMP_TARGET_2_DEVICE_TIMEOUT='30'\n"
        "KDUMP_TARGET_2_TIMEOUT='600'\n"
        "KDUMP_TARGET_2_KEEP='1'\n"
        "KDUMP_TARGET_2_MAX_AGE='2'\n"
        "KDUMP_TARGET_2_MAX_USE='3'\n"
        "KDUMP_TARGET_2_KEEP_FREE='4%'\n"
        "KDUMP_TIMEOUT='600'\n"
        "KDUMP_STEP_TIMEOUT='300'\n"
        "KDUMP_PASSPHRASE_TIMEOUT='60'\n"
        "KDUMP_CRASH_LOOP='10'\n"
        "KDUMP_LEVEL='31'\n"
        "KDUMP_COMPRESS='-z'\n"
        "KDUMP_MAKEDUMPFILE='1.7.9-1'\n"
        "KDUMP_ENCRYPT_TO=''\n"
        "KDUMP_WATCHDOG='/dev/watchdog0'\n"
        f"KDUMP_TRACE_RECORD='UUID=1 4096 {'ab' * 16}'\n"
        "KDUMP_FINAL_ACTION='reboot'\n"
        "KDUMP_FAILURE_ACTION='reboot'\n"
    )


def test_the_whole_system_finds_a_target_where_it_is_mounted() -> None:
    made = env(target(mounted="/srv/crash"), Config(capture="system"))
    assert b"KDUMP_CAPTURE='system'\n" in made
    assert b"KDUMP_TARGET_1_MOUNTED='/srv/crash'\n" in made


@pytest.mark.parametrize("word", ["zstd -z", "zlib -c", "lzo -l", "snappy -p", "none "])
def test_compression_flags(word: str) -> None:
    name, _, flag = word.partition(" ")
    assert f"KDUMP_COMPRESS='{flag}'\n".encode() in env(config=Config(compression=name))


@pytest.mark.parametrize("bad", ["a'b", "a\nb", "a\\b", "a\0b", "a\x7fb", "a\x1bb", "'; reboot #"])
def test_refuses_what_could_leave_the_quotes(bad: str) -> None:
    for where in (target(path=bad), target(device=bad), target(options=bad)):
        with pytest.raises(KdumpError, match="can't be handed"):
            env(where)
    with pytest.raises(KdumpError):
        render.preset(bad, "/boot/x.img")
    with pytest.raises(KdumpError):
        render.preset("1", f"/boot/{bad}")
    with pytest.raises(KdumpError):
        render.mkinitcpio_config(SystemImages("mkinitcpio", files=(bad,)), ("base",), (), "udev")


@pytest.mark.parametrize("bad", ['a"b', "a$(reboot)b", "a`reboot`b"])
def test_preset_is_double_quoted_so_refuses_more(bad: str) -> None:
    """Sourced by bash: an image directory is the user's free text."""
    with pytest.raises(KdumpError):
        render.preset("1", f"/boot/{bad}")


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_property_values_survive_the_shell(text: str) -> None:
    try:
        data = env(target(path=text))
    except KdumpError:
        return
    line = next(x for x in data.decode().split("\n") if x.startswith("KDUMP_TARGET_1_PATH="))
    assert shlex.split(line) == [f"KDUMP_TARGET_1_PATH={text}"]
    assert re.fullmatch(r"(KDUMP_[A-Z0-9_]+='[^'\n]*'\n)+", data.decode())


def test_deterministic() -> None:
    for _ in range(2):
        made = render.mkinitcpio_config(IMAGES, ("base", "udev", "kdump"), ("x",), "udev")
        assert made == render.mkinitcpio_config(IMAGES, ("base", "udev", "kdump"), ("x",), "udev")
    assert b"2026" not in made  # no dates


def test_derived_configuration() -> None:
    text = render.mkinitcpio_config(IMAGES, ("base", "udev", "kdump"), ("x", "y?"), "udev").decode()
    assert "from /etc/mkinitcpio.conf, /etc/mkinitcpio.conf.d/a.conf." in text
    assert "HOOKS=(base udev kdump)\n" in text
    assert "MODULES=(x y?)\n" in text
    assert "BINARIES=('/usr/bin/x y')\n" in text
    assert "FILES=(/etc/key)\n" in text
    assert "microcode" in next(line for line in text.splitlines() if line.startswith("# left out"))
    direct = render.mkinitcpio_config(IMAGES, ("kdump",), (), "direct").decode()
    assert {"HOOKS=(kdump)", "BINARIES=()", "FILES=()", "MODULES=()"} <= set(direct.splitlines())


def test_preset_is_no_trap() -> None:
    """Neither a package base as its name nor a path as its kver (arch-facts, section 2)."""
    text = render.preset("6.12.1-arch1-1", "/boot/x.img").decode()
    assert 'kdump_kver="6.12.1-arch1-1"\n' in text
    assert "ALL_" not in text
    assert 'kdump_image="/boot/x.img"' in text
    assert f'kdump_config="{paths.DERIVED_CONFIG}"' in text


@pytest.mark.parametrize("data", [render.preset("1", "/x"), render.mkinitcpio_config(IMAGES, ("a",), (), "udev")])
def test_checksum_tells_edits(data: bytes, ctx: Context, root: Path) -> None:
    def pristine(content: bytes) -> bool:
        (root / "f").write_bytes(content)
        return read_own_file(ctx, "/f").pristine

    assert pristine(data)
    lines = data.splitlines(keepends=True)
    assert not pristine(data + b"#\n")
    assert not pristine(data[:-1])
    assert not pristine(b"".join(lines[1:]))
    assert not pristine(b"".join(line for line in lines if b"checksum" not in line))
    assert not pristine(b"\n" + data)


def test_kernel_cache() -> None:
    have = (kernel(init_size=5), kernel("6.1", vmlinuz=None), kernel("6.2", problem="broken", build_id=None))
    cache = json.loads(render.kernel_cache(have))
    assert cache == {
        kernel().release: {"build_id": BUILD_ID, "problem": None, "stamp": "1:1", "init_size": 5},
        "6.2": {"build_id": None, "problem": "broken", "stamp": "1:1", "init_size": None},
    }
    assert render.kernel_cache(have) == render.kernel_cache(tuple(reversed(have)))


def test_sample_says_every_default(ctx: Context, root: Path) -> None:
    """Commented out it changes nothing; in force it still is the default."""
    sample = render.sample_config()
    assert all(line.startswith("#") or not line for line in sample.splitlines())
    make_tree(root, {paths.CONFIG: sample})
    assert config.load(ctx) == Config()
    active = re.sub(r"^#(\w+ =|\[[a-z ]+\]$)", r"\1", sample, flags=re.MULTILINE).replace("\npath = \n", "\n")
    make_tree(root, {paths.CONFIG: active})
    assert config.load(ctx) == Config()
    count = len({option.name for option in (*OPTIONS, *TARGET_OPTIONS)}) + len(UPLOAD_OPTIONS) + len(VARIANT_OPTIONS)
    assert len(re.findall(r"^\w+ =", active, flags=re.MULTILINE)) == count


def test_sample_is_narrow_enough() -> None:
    assert max(map(len, render.sample_config().splitlines())) <= 140
