"""The user's configuration: what is read, and what is said of what can't be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg import config, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError
from kdump_pkg.model import Config, Layer, Retention, TargetWish, UploadWish, VariantWish
from kdump_pkg.options import OPTIONS, TARGET_OPTIONS, UPLOAD_OPTIONS, VARIANT_OPTIONS
from tests.fakes import Entry, Hole, Link, make_tree

DIR = paths.CONFIG_DROPINS


def load(root: Path, entries: dict[str, Entry] | str) -> Config:
    make_tree(root, {paths.CONFIG: entries} if isinstance(entries, str) else entries)
    return config.load(Context(root=root))


def problems(root: Path, entries: dict[str, Entry] | str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(root, entries)
    assert caught.value.message == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def test_none_is_the_defaults(ctx: Context) -> None:
    assert config.load(ctx) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Config()),
        ("\n\n# only comments\n  # here\n", Config()),
        ("kernel = linux-lts", Config(kernel="linux-lts")),
        ("kernel=linux-lts # why\n", Config(kernel="linux-lts")),
        ("\ufeffkernel = linux-lts\n", Config(kernel="linux-lts")),
        ("kernel = linux-lts\r\ntimeout = 60\r\n", Config(kernel="linux-lts", timeout=60)),
        ('path = "/mnt/crash dumps"', Config(path="/mnt/crash dumps")),
        ("path = '/a=b'", Config(path="/a=b")),
        ("drivers = nvme", Config(drivers=("nvme",))),
        ("drivers = nvme, ahci?,sd_mod", Config(drivers=("nvme", "ahci?", "sd_mod"))),
        ("modules =", Config(modules=())),
        ("modules = ,", Config(modules=())),
        ("cmdline_add = console=ttyS0, earlycon", Config(cmdline_add=("console=ttyS0", "earlycon"))),
        ('cmdline_add = "console=ttyS0,115200n8"', Config(cmdline_add=("console=ttyS0,115200n8",))),
        ("cmdline_add = %(home)s, $x", Config(cmdline_add=("%(home)s", "$x"))),
        ("save_debug = no", Config(save_debug=False)),
        ("save_debug = On", Config(save_debug=True)),
        ("dump_level = 17\nkeep_debug = 0", Config(dump_level="17", keep_debug=0)),
        ("timeout = 86400\ndevice_timeout = 1", Config(timeout=86400, device_timeout=1)),
        ("final_action = poweroff\ncompression = none", Config(final_action="poweroff", compression="none")),
        ("'kernel' = linux", Config(kernel="linux")),
    ],
)
def test_values(root: Path, text: str, expected: Config) -> None:
    found = load(root, text)
    assert replace(found, targets=Config().targets) == expected
    (target,) = found.targets  # without a section there is one, and it is what the options say
    assert (target.name, target.path, target.timeout) == ("root", found.path, found.timeout)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("kernal = linux", 1, ["unknown option kernal", "did you mean kernel?"]),
        ("\n# x\nzzz = 1", 3, ["unknown option zzz", "allowed are kernel, generator"]),
        ("kernel = a b", 1, ["kernel = 'a b' is not allowed", "package base"]),
        ("kernel =", 1, ["kernel = '' is not allowed"]),
        ("kernel = a, b", 1, ["is not allowed"]),
        ("flavour = Direct", 1, ["flavour = 'Direct'", "auto, direct, udev or systemd"]),
        ("timeout = soon", 1, ["timeout = 'soon'", "seconds, from 30 to 86400"]),
        ("timeout = 29", 1, ["timeout = '29'"]),
        ("timeout = 86401", 1, ["timeout = '86401'"]),
        ("timeout = 1e3", 1, ["timeout = '1e3'"]),
        ("timeout = 30, 40", 1, ["timeout ="]),
        ("dump_level = 32", 1, ["dump_level = '32'", "0 to 31"]),
        ("dump_level = -1", 1, ["dump_level"]),
        ("path = var/crash", 1, ["path = 'var/crash'", "an absolute directory"]),
        ("path = \"/var/it's\"", 1, ["path ="]),
        ("path = /a\\b", 1, ["path ="]),
        ("image_dir = boot", 1, ["image_dir"]),
        ("drivers = nvme, a/b", 1, ["drivers = 'nvme, a/b'"]),
        ("modules = ../x", 1, ["modules"]),
        ("cmdline_add = \"a b\"", 1, ["cmdline_add"]),
        ("cmdline_remove = x'y", 1, ["cmdline_remove"]),
        ("save_debug = maybe", 1, ["save_debug = 'maybe'", "yes or no"]),
        ("keep_debug = 101", 1, ["keep_debug"]),
        ("keep_debug = ", 1, ["keep_debug"]),
        ("kernel linux", 1, ["not a line of the form key = value"]),
        ("\n\n= linux", 3, ["not a line of the form"]),
        ("kernel = 'linux", 1, ["not a line of the form"]),
        ("kernel = '''linux\n", 1, ["not a line of the form"]),
        ("# x\n[section]\nkernel = linux", 2, ["unknown section [section]", "[target esp]"]),
        ("[target usb]\n", 1, ["unknown section [target usb]"]),
        ("[target uuid=1 2]\n", 1, ["unknown section"]),
        ("path = /x\n[target esp]\nzzz = 1", 3, ["unknown option zzz in [target esp]", "allowed are path"]),
        ("keep = 1\n[target esp]\nkeep = -1", 3, ["keep = '-1'"]),
        ("[target root]\n[target esp]\npth = /x", 3, ["did you mean path?"]),
        ("[target root]\nlayers = md:x y", 2, ["layers = 'md:x y'", "md:UUID"]),
        ("[target root]\nlayers = auto, md:a", 2, ["layers ="]),
        ("[target root]\nlayers = raid:a", 2, ["layers ="]),
        ("[target root]\n[[more]]\n", 1, ["holds another section"]),
        ("[target root]\n[target root]\n", 2, ["set twice in this file"]),
        ("keep_free = 100%", 1, ["keep_free = '100%'", "20G"]),
        ("max_use = 5", 1, ["max_use"]),
        ("[upload]\nremot = s3:x", 2, ["unknown option remot in [upload]", "did you mean remote?"]),
        ("keep = 3\n[upload]\nremote = /mnt/x", 3, ["remote = '/mnt/x'", "name:path"]),
        ("[upload]\nremote = s3:a:b", 2, ["remote ="]),
        ("[upload]\nremote = -v:b", 2, ["remote ="]),
        ("[upload]\nremote = :s3,access_key_id=x:b", 2, ["remote ="]),
        ("[upload]\nremote = s3:a\x1b[31m", 2, ["remote ="]),
        ("[upload]\nwhat = all", 2, ["what = 'all'", "reports or dumps"]),
        ("[upload]\nremote = s3:x\nrate = 100", 3, ["rate = '100'", "512K"]),
        ("[upload]\nrate = 10M:1M", 2, ["rate ="]),
        ("[upload]\nconfig = rclone.conf", 2, ["config = 'rclone.conf'", "an absolute file name"]),
        ("[upload]\nhost = a/b", 2, ["host = 'a/b'", "letters, digits"]),
        ("[upload]\nhost = ..", 2, ["host ="]),
        ("[upload]\n[[more]]\n", 1, ["holds another section"]),
        ("[uplaod]\n", 1, ["unknown section [uplaod]", "[upload] or [variant]"]),
        ("[variant]\nfolow = never", 2, ["unknown option folow in [variant]", "did you mean follow?"]),
        ("[variant]\nfollow = always", 2, ["follow = 'always'", "release, series or never"]),
        ("[variant]\nsource = linux.tar.xz", 2, ["source = 'linux.tar.xz'", "absolute path"]),
        ("[variant]\nsource = \"/a'b\"", 2, ["source ="]),
        ("[variant]\nsource = /a, /b", 2, ["source ="]),
        ("[variant]\nsha256 = abc", 2, ["sha256 = 'abc'", "64 hexadecimal digits"]),
        (f"[variant]\nsha256 = {'AB' * 32}", 2, ["sha256 ="]),
        ("[variant]\nkeys = ~/key", 2, ["keys = '~/key'"]),
        ("[variant]\ndrivers = common", 2, ["drivers = 'common'", "auto or all"]),
        ("[variant]\ntrust = maybe", 2, ["trust = 'maybe'"]),
        ("[variant]\npower = battery", 2, ["power = 'battery'", "mains or any"]),
        ("timeout = 60\n[variant]\nmax_load = 50", 3, ["max_load = '50'", "from 1% to 100%, or 0"]),
        ("[variant]\nmax_load = 0%", 2, ["max_load ="]),
        ("[variant]\nmax_load = 101%", 2, ["max_load ="]),
        ("[variant]\n[[more]]\n", 1, ["holds another section"]),
        ("encrypt_to = age1short", 1, ["encrypt_to", "age(1)"]),
        ("crash_loop = -1", 1, ["crash_loop", "minutes"]),
        ("capture = both", 1, ["image or system"]),
        ("kernel = linux\n\nkernel = linux-lts", 3, ["set twice in this file"]),
    ],
)  # fmt: skip
def test_problems(root: Path, text: str, line: int, words: list[str]) -> None:
    found = problems(root, text)
    assert len(found) == 1
    assert found[0].startswith(f"{paths.CONFIG}:{line}: ")
    for word in words:
        assert word in found[0]


def test_all_problems_are_shown(root: Path) -> None:
    found = problems(
        root,
        {
            paths.CONFIG: "timeout = 1\nkernel = a b\npath = /ok\nfinal_action = explode\n",
            f"{DIR}/10-a.conf": "unknown = 1\n[s]\n",
            f"{DIR}/20-b.conf": "nonsense\n",
            f"{DIR}/30-c.conf": b"\xff\xfe",
        },
    )
    assert [p.split(": ")[0] for p in found] == [
        "/etc/kdump-pkg.conf:1", "/etc/kdump-pkg.conf:2", "/etc/kdump-pkg.conf:4",
        f"{DIR}/10-a.conf:2", f"{DIR}/10-a.conf:1", f"{DIR}/20-b.conf:1", f"{DIR}/30-c.conf:1",
    ]  # fmt: skip


def test_several_bad_lines_of_one_file(root: Path) -> None:
    found = problems(root, "one\nkernel = linux\ntwo\nthree\n")
    assert [p.split(": ")[0] for p in found] == [f"{paths.CONFIG}:{n}" for n in (1, 3, 4)]


def test_dropins_in_order(root: Path) -> None:
    entries: dict[str, Entry] = {
        paths.CONFIG: "kernel = a\ntimeout = 100\npath = /one",
        f"{DIR}/20.conf": "kernel = c\nmodules = x",
        f"{DIR}/10.conf": "kernel = b\ntimeout = 200",
        f"{DIR}/30.conf.pacnew": "kernel = d",
        f"{DIR}/README": "not a configuration",
        f"{DIR}/.hidden": "x",
    }
    found = replace(load(root, entries), targets=Config().targets)
    assert found == Config(kernel="c", timeout=200, path="/one", modules=("x",))


AGE = f"age1{'q' * 58}"


def test_targets(root: Path) -> None:
    text = f"""keep = 3
path = /srv/crash
keep_free = 2G
encrypt_to = {AGE}, {AGE}
[target uuid=ABCD-12:/@crash]
layers = md:1:2:3:4, crypt:aa-bb, lvm:vg/lv
timeout = 60
[target root]
[target label=dumps]  # the last
fstype = xfs
max_use = 10%
keep = 0
"""
    found = load(root, text)
    assert found.encrypt_to == (AGE, AGE)
    rules = Retention(3, 0, "0", str(2 << 20))
    layers = (Layer("md", "1:2:3:4"), Layer("crypt", "aa-bb"), Layer("lvm", "vg/lv"))
    assert found.targets == (
        TargetWish("uuid=ABCD-12:/@crash", "/srv/crash", layers=layers, timeout=60, retention=rules),
        TargetWish("root", "/srv/crash", retention=rules),
        TargetWish("label=dumps", "/srv/crash", "xfs", retention=replace(rules, keep=0, max_use="10%")),
    )


def test_sections_of_several_files(root: Path) -> None:
    entries: dict[str, Entry] = {
        paths.CONFIG: "[target root]\ntimeout = 60\n[target esp]\npath = /a\n",
        f"{DIR}/1.conf": "keep = 9\n[target esp]\ntimeout = 70\n[target label=x]\n",
    }
    found = load(root, entries).targets
    assert [(t.name, t.path, t.timeout, t.retention.keep) for t in found] == [
        ("root", "/var/crash", 60, 9), ("esp", "/a", 70, 9), ("label=x", "/var/crash", 600, 9),
    ]  # fmt: skip


def test_upload(root: Path) -> None:
    entries: dict[str, Entry] = {
        paths.CONFIG: "[upload]\nremote = store:crashes/fleet\nwhat = dumps\n[target root]\nkeep = 2\n",
        f"{DIR}/1.conf": "[upload]\nrate = 512K\nhost = db-1.example.org\n",
    }
    found = load(root, entries)
    assert found.upload == UploadWish("store:crashes/fleet", "dumps", "512K", host="db-1.example.org")
    assert [t.name for t in found.targets] == ["root"]


@pytest.mark.parametrize("text", ["", "remote =", 'remote = ""'])
def test_nothing_is_sent_unasked(root: Path, text: str) -> None:
    assert load(root, f"[upload]\n{text}").upload == UploadWish()


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("", VariantWish()),
        ("follow = series\npower = any\nmax_load = 0", VariantWish(follow="series", power="any", max_load=0)),
        ("follow = never\nmax_load = 100%", VariantWish(follow="never", max_load=100)),
        ("source = /usr/src/my linux-6.12.tar.xz", VariantWish(source="/usr/src/my linux-6.12.tar.xz")),
        (f"sha256 = {'a1' * 32}", VariantWish(sha256="a1" * 32)),
        ("sha256 =\nkeys = /etc/own.gpg", VariantWish(keys="/etc/own.gpg")),
        ("drivers = all\nnetwork = yes\ntrust = on", VariantWish(drivers="all", network=True, trust=True)),
    ],
)
def test_variant(root: Path, text: str, wish: VariantWish) -> None:
    found = load(root, f"drivers = nvme\n[variant]\n{text}")
    assert (found.variant, found.drivers) == (wish, ("nvme",))
    assert [t.name for t in found.targets] == ["root"]


def test_variant_is_set_key_by_key(root: Path) -> None:
    entries: dict[str, Entry] = {
        paths.CONFIG: "[variant]\nfollow = series\nmax_load = 10%\n",
        f"{DIR}/x.conf": "[variant]\nmax_load = 20%\n",
    }
    assert load(root, entries).variant == VariantWish(follow="series", max_load=20)


@pytest.mark.parametrize("remote", ["s3:", "s3:b", "my-nas_1:a/b c/d", "S3.x@y+z:bucket/"])
def test_remotes(root: Path, remote: str) -> None:
    assert load(root, f"[upload]\nremote = {remote}").upload.remote == remote


def test_dropin_alone(root: Path) -> None:
    assert load(root, {f"{DIR}/x.conf": "kernel = linux-zen"}).kernel == "linux-zen"


@pytest.mark.parametrize(
    ("entry", "line", "words"),
    [
        pytest.param(None, 1, "not a regular file", id="directory"),
        pytest.param(Hole(2 << 20), 1, "larger than 1 MiB", id="2 MiB of zeros"),
        pytest.param(Hole(1 << 30), 1, "larger than 1 MiB", id="1 GiB of zeros"),
        pytest.param("#" * (2 << 20), 1, "larger than 1 MiB", id="2 MiB of comment"),
        pytest.param(b"kernel = \xff\n", 1, "not UTF-8", id="latin 1"),
        pytest.param(b"# \n\n\x80\n", 3, "not UTF-8", id="not UTF-8, line"),
        pytest.param(bytes(range(256)) * 16, 2, "not UTF-8", id="binary noise"),
        pytest.param(b"\0" * 4096, 1, "", id="zeros"),
        pytest.param("kernel = linux\0lts", 1, "is not allowed", id="NUL in a value"),
        pytest.param("kernel = \x1b[31mlinux", 1, "is not allowed", id="escape sequence"),
        pytest.param(Link("/loop"), 1, "symbolic links", id="loop"),
    ],
)
def test_what_is_no_text(root: Path, entry: Entry, line: int, words: str) -> None:
    make_tree(root, {"/loop": Link("/etc/kdump-pkg.conf")})
    (found,) = problems(root, {paths.CONFIG: entry})
    assert found.startswith(f"{paths.CONFIG}:{line}: ")
    assert words in found
    assert found.isprintable()


def test_links_stay_inside_the_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.conf").write_text("kernel = stolen")
    make_tree(root, {"/real.conf": "kernel = inside", paths.CONFIG: Link("/real.conf")})
    make_tree(
        root, {f"{DIR}/x.conf": Link("../../../../outside.conf"), f"{DIR}/y.conf": Link(f"{tmp_path}/outside.conf")}
    )
    assert config.load(Context(root=root)).kernel == "inside"


def test_read_only_when_there_is_something_to_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged file is all comments: then ConfigObj isn't needed, so it may be missing."""
    import sys

    monkeypatch.setitem(sys.modules, "configobj", None)
    assert load(root, "# kernel = auto\n\n") == Config()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_property_reads_or_says_what_is_wrong(root: Path, data: bytes) -> None:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/kdump-pkg.conf").write_bytes(data)
    try:
        config.load(Context(root=root))
    except ConfigError as error:
        for line in error.problems:
            assert line.startswith("/etc/kdump-pkg.conf:")
            assert line.isprintable()


def test_table_and_dataclass_agree(root: Path) -> None:
    assert {o.name for o in OPTIONS} | {"targets", "upload", "variant"} == set(Config.__dataclass_fields__)
    assert {o.name: o.default for o in UPLOAD_OPTIONS} == vars(UploadWish())
    written = {o.name: o.default for o in VARIANT_OPTIONS}
    assert load(root, "[variant]\n" + "".join(f"{k} = {v}\n" for k, v in written.items())).variant == VariantWish()
    assert written.keys() == vars(VariantWish()).keys()
    assert {o.name for o in TARGET_OPTIONS} | {"name", "retention"} == set(TargetWish.__dataclass_fields__) | set(
        Retention.__dataclass_fields__
    )
    assert all(o.help.endswith(".") and o.allowed for o in (*OPTIONS, *VARIANT_OPTIONS))
