"""linux-kdump/PKGBUILD and source.sh under bash: what a file of settings makes of them, unpacking, the call of make."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import REPO

RECIPE = REPO / "linux-kdump"
SHOW = """
cd "$startdir"
. ./PKGBUILD || exit
declare -p pkgname pkgver arch source sha256sums validpgpkeys noextract options
declare -F prepare build package pkgver
"""
SETTINGS = """
_version=6.12.1_arch1
_source=('https://kernel.test/linux-6.12.1.tar.xz' 'https://kernel.test/linux-6.12.1.tar.sign' a.patch.zst)
_sums=(SKIP SKIP 00ff)
_keys=(0123)
_archive=(linux-6.12.1.tar.xz)
_patches=(a.patch.zst)
_tree=
_fragments=(base "$CARCH" ext4)
_modules=()
_jobs=2
"""


def shell(script: str, home: Path, arch: str = "x86_64", **env: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", script], cwd=home, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "startdir": str(home), "srcdir": str(home / "src"), "CARCH": arch, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As `kdump-pkg variant build` prepares it."""
    home = tmp_path / "home"
    shutil.copytree(RECIPE, home)
    (home / "src").mkdir()
    (home / "settings").write_text(SETTINGS)
    return home


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_pkgbuild_follows_its_settings(home: Path, arch: str) -> None:
    said = shell(SHOW, home, arch)
    assert 'declare -- pkgver="6.12.1_arch1"' in said
    files = ["configure", "base.config", f"{arch}.config", "ext4.config"]
    fetched = ["https://kernel.test/linux-6.12.1.tar.xz", "https://kernel.test/linux-6.12.1.tar.sign", "a.patch.zst"]
    assert array("source", [*fetched, *files]) in said
    assert array("sha256sums", ["SKIP", "SKIP", "00ff", *["SKIP"] * 4]) in said
    assert array("validpgpkeys", ["0123"]) in said and array("noextract", ["linux-6.12.1.tar.xz"]) in said
    assert array("options", ["!strip", "!debug", "!buildflags", "!makeflags"]) in said


def array(name: str, values: Sequence[str]) -> str:
    return f"declare -a {name}=({' '.join(f'[{i}]={chr(34)}{value}{chr(34)}' for i, value in enumerate(values))})"


def test_pkgbuild_with_a_tree_fetches_nothing(home: Path) -> None:
    (home / "settings").write_text(
        "_version=6.12\n_source=()\n_sums=()\n_keys=()\n_archive=()\n_patches=()\n_tree=/usr/src/linux\n"
        "_fragments=(base)\n_modules=(e1000)\n_jobs=1\n"
    )
    said = shell(SHOW, home)
    assert array("source", ["configure", "base.config"]) in said and array("sha256sums", ["SKIP", "SKIP"]) in said
    assert "declare -a noextract=()" in said
    assert shell(". ./PKGBUILD; _linux; _unpack", home).split() == ["/usr/src/linux"]


def test_the_settings_that_are_shipped(home: Path) -> None:
    shutil.copy(RECIPE / "settings", home)
    files = shell('. ./PKGBUILD; printf "%s\\n" "${source[@]}"', home).split()
    assert [file for file in files if not file.startswith("https:") and not (home / file).is_file()] == []


# --- unpacking --------------------------------------------------------------------------------------------------------

UNPACK = 'set -e; . "$startdir/PKGBUILD"; cd "$srcdir"; _unpack'


def pack(home: Path, version: str, stamp: int = 1_700_000_000) -> None:
    tree = home / "pack" / f"linux-{version}"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text(f"VERSION = {version}\nkernelversion:\n\t@echo {version}-arch1\n")
    os.utime(tree / "Makefile", (stamp, stamp))
    subprocess.run(["tar", "-C", tree.parent, "-cf", home / "src/linux-6.12.1.tar.xz", tree.name], check=True)
    shutil.rmtree(home / "pack")
    (home / "src/a.patch.zst").unlink(missing_ok=True)


@pytest.fixture
def unpacked(home: Path) -> Path:
    need("bsdtar")
    (home / "settings").write_text(SETTINGS.replace("_patches=(a.patch.zst)", "_patches=()"))
    pack(home, "6.12.1")
    shell(UNPACK, home)
    for name in ("linux/mine", "build/object"):
        (home / "src" / name).parent.mkdir(exist_ok=True)
        (home / "src" / name).touch()
    return home


def test_the_same_source_is_not_unpacked_again(unpacked: Path) -> None:
    shell(UNPACK, unpacked)
    assert (unpacked / "src/linux/mine").exists() and (unpacked / "src/build/object").exists()


def test_another_source_starts_afresh(unpacked: Path) -> None:
    pack(unpacked, "6.12.2")
    shell(UNPACK, unpacked)
    assert "6.12.2" in (unpacked / "src/linux/Makefile").read_text()
    assert not (unpacked / "src/linux/mine").exists() and not (unpacked / "src/build").exists()


def test_what_was_unpacked_by_half_is_unpacked_anew(unpacked: Path) -> None:
    shutil.rmtree(unpacked / "src/linux")
    (unpacked / "src/linux").mkdir()
    (unpacked / "src/linux/mine").touch()
    shell(UNPACK, unpacked)
    assert (unpacked / "src/linux/Makefile").exists() and not (unpacked / "src/linux/mine").exists()


@pytest.mark.parametrize("what", ["broken", "other"])
def test_an_archive_that_is_no_source(unpacked: Path, what: str) -> None:
    archive = unpacked / "src/linux-6.12.1.tar.xz"
    if what == "broken":
        archive.write_bytes(archive.read_bytes()[:700])
    else:
        subprocess.run(["tar", "-C", unpacked, "-cf", archive, "settings"], check=True)
    done = subprocess.run(
        ["bash", "-euc", UNPACK], capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "startdir": str(unpacked), "srcdir": str(unpacked / "src"), "CARCH": "x86_64"},
    )  # fmt: skip
    assert done.returncode != 0 and len(done.stderr.splitlines()) < 4
    assert "no source of a kernel" in done.stderr or what == "broken"
    assert not (unpacked / "src/linux/.unpacked").exists()


@pytest.mark.parametrize("packer", ["", "zstd"])
def test_patches_are_applied_and_part_of_the_source(unpacked: Path, packer: str) -> None:
    need("patch")
    patch = "--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-VERSION = 6.12.1\n+VERSION = 6.12.1-arch1\n"
    name = f"a.patch{'.zst' if packer else ''}"
    (unpacked / "settings").write_text(SETTINGS.replace("_patches=(a.patch.zst)", f"_patches=({name})"))
    data = patch.encode()
    if packer:
        need("zstd")
        data = subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    (unpacked / "src" / name).write_bytes(data)
    said = shell(UNPACK, unpacked)
    assert f"Applying {name}" in said and not (unpacked / "src/linux/mine").exists()
    assert "VERSION = 6.12.1-arch1" in (unpacked / "src/linux/Makefile").read_text()
    assert "Applying" not in shell(UNPACK, unpacked)


# --- make -------------------------------------------------------------------------------------------------------------

SHIMMED = """
. "$startdir/PKGBUILD"
ccache() { :; }
[[ $WITH_CCACHE ]] || unset -f ccache
make() { printf '%s\\n' "$@"; }
_make -j2 "$_image"
"""


@pytest.mark.parametrize("ccache", ["", "yes"])
def test_make_is_told_all_that_would_differ(unpacked: Path, ccache: str) -> None:
    (unpacked / "src/linux/Makefile").touch()  # as a patch does
    bare = unpacked / "bin"
    bare.mkdir()
    for tool in ("bash", "date", "stat"):
        found = shutil.which(tool)
        assert found
        (bare / tool).symlink_to(found)
    said = shell(SHIMMED, unpacked, WITH_CCACHE=ccache, PATH=str(bare)).splitlines()
    source = str(unpacked / "src/linux")
    assert said[:2] == ["-C", source]
    assert {f"O={unpacked}/src/build", "LOCALVERSION=", "KBUILD_BUILD_USER=linux-kdump", "-j2", "bzImage"} <= set(said)
    assert f"CC={'ccache ' if ccache else ''}gcc" in said
    assert "KBUILD_BUILD_TIMESTAMP=Tue, 14 Nov 2023 22:13:20 +0000" in said, "the archive's, whenever it is unpacked"


def test_version_of_the_package(unpacked: Path) -> None:
    need("make")
    assert shell('. "$startdir/PKGBUILD"; pkgver', unpacked).strip() == "6.12.1_arch1"
