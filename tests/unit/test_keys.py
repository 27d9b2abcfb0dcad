"""Volume keys for the capture kernel: where each comes from, what the kernel is told, that nothing is left behind."""

from __future__ import annotations

import io
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest

from kdump_pkg import paths, reconcile, ui
from kdump_pkg.apply import kexec, keys
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.state import read_loaded
from kdump_pkg.model import Boot, Config, CryptVolume, Facts, Load, Loaded, Target
from tests.fakes import RELEASE, Answer, Call, FakeRunner, failing, make_tree

A = "7d26b7b4-e342-4d2d-b660-7426b0996720"
B = "0c6f1a4e-3b12-4a55-9d5b-6a3c1b0f9e11"
SECRET = "correct horse"
IMAGE = "/boot/initramfs-linux-kdump.img"
VMLINUZ = f"/usr/lib/modules/{RELEASE}/vmlinuz"
ITEMS = paths.CRASH_KEYS


@dataclass
class FakeKeyring:
    """Keys by kind and description; knows whether it was joined."""

    held: dict[tuple[str, str], bytes] = field(default_factory=dict)
    joined: bool = False

    def join(self) -> None:
        self.joined = True

    def has(self, kind: str, description: str) -> bool:
        return (kind, description) in self.held

    def read(self, kind: str, description: str) -> bytes | None:
        return self.held.get((kind, description))

    def link(self, uuid: str) -> None:
        self.held["logon", f"cryptsetup:{uuid}"] = b""


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring()


@pytest.fixture
def ctx(ctx: Context, keyring: FakeKeyring) -> Context:
    return replace(ctx, keyring=keyring)


@pytest.fixture
def configfs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's directory; an item of it goes by rmdir, with the attribute in it."""
    make_tree(root, {ITEMS: None, f"{ITEMS}/count": "0", VMLINUZ: "kernel", IMAGE: "image"})
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    return root / ITEMS.lstrip("/")


def items(configfs: Path) -> dict[str, str]:
    return {path.name: (path / "description").read_text() for path in configfs.iterdir() if path.is_dir()}


def opens(keyring: FakeKeyring, *, passphrase: str = SECRET, keyfile: str = "/etc/key", token: bool = False) -> Answer:
    """A cryptsetup that links the key where what it is given opens the volume."""

    def answer(call: Call) -> Answer:
        uuid = call.argv[-2].rsplit(":", 1)[1]
        given = call.argv[call.argv.index("--key-file") + 1] if "--key-file" in call.argv else None
        good = call.stdin == passphrase.encode() if given == "-" else given == keyfile if given else token
        if not good:
            return failing(call.argv, 2, "\nNo key available with this passphrase.\n")
        keyring.link(uuid)
        return 0

    return answer


def volume(key: str, uuid: str = A, **changes: object) -> CryptVolume:
    values: dict[str, object] = {"uuid": uuid, "version": 2, "key": key, "device": "/dev/vda2"}
    return CryptVolume(**(values | changes))  # type: ignore[arg-type]


def load(*volumes: CryptVolume, methods: tuple[str, ...] = ("-s", "-c")) -> Load:
    return Load(VMLINUZ, IMAGE, "panic=10", RELEASE, "ab" * 32, methods, "why", volumes)


def arm(ctx: Context, action: Load) -> tuple[Loaded, list[str]]:
    said: list[str] = []
    kexec.load(ctx, action, said.append)
    found = read_loaded(ctx)
    assert found is not None
    return found, said


# --- where the key comes from -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "how"),
    [
        pytest.param(volume("linked"), None, id="linked"),
        pytest.param(volume("keyfile", keyfile="/etc/key"), "--key-file /etc/key", id="key file"),
        pytest.param(volume("token"), "--token-only", id="token"),
        pytest.param(volume("cached"), "--key-file -", id="cached"),
    ],
)
def test_the_kernel_is_told_of_the_key_while_it_loads(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path, one: CryptVolume, how: str | None
) -> None:
    seen: list[dict[str, str]] = []
    keyring.held["user", "cryptsetup"] = f"wrong one\0{SECRET}\0".encode()
    if how is None:
        keyring.link(A)
    runner.answers["cryptsetup"] = opens(keyring, token=True)
    runner.answers["kexec"] = lambda call: seen.append(items(configfs)) or 0  # type: ignore[func-returns-value]
    loaded, said = arm(ctx, load(one))
    assert seen == [{A: f"cryptsetup:{A}\n"}]
    assert items(configfs) == {}
    assert (loaded.keys, loaded.method, said) == (A, "-s", [])
    assert keyring.joined
    lines = runner.lines("cryptsetup")
    wanted = f"cryptsetup open --test-passphrase {how} --link-vk-to-keyring @u::%logon:cryptsetup:{A} /dev/vda2"
    assert lines[-1:] == ([wanted] if how else [])
    assert len(lines) == {"--key-file -": 2, None: 0}.get(how, 1)


def test_secrets_are_nowhere_but_in_the_pipe(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path, root: Path
) -> None:
    keyring.held["user", "cryptsetup"] = SECRET.encode()
    runner.answers |= {"cryptsetup": opens(keyring, passphrase="another"), "kexec": 0}
    _, said = arm(ctx, load(volume("cached")))
    assert len(said) == 1
    assert [c.stdin for c in runner.calls if c.argv[0] == "cryptsetup"] == [SECRET.encode()]
    for text in (*said, *runner.lines(), *(p.read_text() for p in root.rglob("*") if p.is_file())):
        assert SECRET not in text


def test_without_a_device_it_is_found_by_its_uuid(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path
) -> None:
    runner.answers |= {"cryptsetup": opens(keyring), "kexec": 0}
    arm(ctx, load(volume("keyfile", keyfile="/etc/key", device="")))
    assert runner.calls[0].argv[-1] == f"UUID={A}"


# --- what keeps it back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "words"),
    [
        pytest.param(volume("linked"), "it has left root's keyring", id="gone"),
        pytest.param(volume("keyfile", keyfile="/etc/other"), "No key available with this passphrase", id="key file"),
        pytest.param(volume("token"), "No key available with this passphrase", id="token"),
        pytest.param(volume("cached"), "none of the passphrases typed at boot", id="nothing cached"),
        pytest.param(volume("none", problem="it is LUKS1"), "it is LUKS1", id="problem"),
        pytest.param(volume("none"), "kdump-pkg load --unlock", id="none"),
    ],
)
def test_without_its_key_it_is_loaded_all_the_same(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path, one: CryptVolume, words: str
) -> None:
    runner.answers |= {"cryptsetup": opens(keyring), "kexec": 0}
    loaded, said = arm(ctx, load(one))
    assert (loaded.keys, loaded.method) == ("", "-s")
    (line,) = said
    assert words in line
    assert A in line
    assert items(configfs) == {}


def test_one_key_of_two(ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path) -> None:
    """The kernel refuses altogether when one of those that it was told of is missing."""
    seen: list[dict[str, str]] = []
    keyring.link(B)
    runner.answers["kexec"] = lambda call: seen.append(items(configfs)) or 0  # type: ignore[func-returns-value]
    loaded, said = arm(ctx, load(volume("linked", A), volume("linked", B)))
    assert loaded.keys == B
    assert list(seen[0]) == [B]
    assert len(said) == 1


def test_success_that_linked_nothing_is_none(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path
) -> None:
    """cryptsetup does nothing with --link-vk-to-keyring and LUKS1, and exits 0."""
    runner.answers |= {"cryptsetup": 0, "kexec": 0}
    loaded, said = arm(ctx, load(volume("keyfile", keyfile="/etc/key")))
    assert loaded.keys == ""
    assert "linked nothing" in said[0]


def test_cryptsetup_is_not_installed(ctx: Context, runner: FakeRunner, configfs: Path) -> None:
    runner.answers["kexec"] = 0
    loaded, said = arm(ctx, load(volume("token")))
    assert loaded.keys == ""
    assert "cryptsetup: not found" in said[0]


def test_a_kernel_that_hands_no_keys_over(ctx: Context, runner: FakeRunner, root: Path, keyring: FakeKeyring) -> None:
    make_tree(root, {VMLINUZ: "kernel", IMAGE: "image"})
    keyring.link(A)
    runner.answers |= {"mount": 32, "kexec": 0}
    loaded, said = arm(ctx, load(volume("linked")))
    assert loaded.keys == ""
    assert "CONFIG_CRASH_DM_CRYPT" in said[0]
    assert runner.lines()[0] == "mount -t configfs configfs /sys/kernel/config"


def test_configfs_is_mounted_where_nobody_did(
    ctx: Context, runner: FakeRunner, root: Path, keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(root, {VMLINUZ: "kernel", IMAGE: "image"})
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    keyring.link(A)

    def mount(call: Call) -> Answer:
        make_tree(root, {ITEMS: None})
        return 0

    runner.answers |= {"mount": mount, "kexec": 0}
    loaded, said = arm(ctx, load(volume("linked")))
    assert (loaded.keys, said) == (A, [])


def test_only_kexec_file_load_takes_keys(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path
) -> None:
    keyring.link(A)
    runner.answers["kexec"] = 0
    loaded, said = arm(ctx, load(volume("linked"), methods=("-c",)))
    assert (loaded.keys, loaded.method) == ("", "-c")
    assert "kexec_file_load" in said[0]


def test_refused_with_keys_is_tried_without(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path
) -> None:
    keyring.link(A)

    def answer(call: Call) -> Answer:
        return failing(call.argv, 1, "Required key not available") if items(configfs) else 0

    runner.answers["kexec"] = answer
    loaded, said = arm(ctx, load(volume("linked")))
    assert (loaded.keys, loaded.method) == ("", "-s")
    assert "Required key not available" in said[0]
    assert len(runner.lines("kexec")) == 2


# --- nothing stale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("volumes", [(), (volume("linked"),)])
def test_stale_items_go_first(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path, volumes: tuple[CryptVolume, ...]
) -> None:
    seen: list[set[str]] = []
    (configfs / B).mkdir()
    (configfs / B / "description").write_text("cryptsetup:gone\n")
    keyring.link(A)
    runner.answers["kexec"] = lambda call: seen.append(set(items(configfs))) or 0  # type: ignore[func-returns-value]
    arm(ctx, load(*volumes))
    assert seen == [{v.uuid for v in volumes}]
    assert items(configfs) == {}


def test_items_go_when_the_load_fails(ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path) -> None:
    keyring.link(A)
    runner.answers["kexec"] = 1
    with pytest.raises(kexec.LoadError):
        kexec.load(ctx, load(volume("linked")))
    assert items(configfs) == {}


def test_no_keys_no_keyring(ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path) -> None:
    runner.answers["kexec"] = 0
    arm(ctx, load())
    assert not keyring.joined


def test_the_last_good_one_goes_back_with_its_keys(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, configfs: Path, root: Path
) -> None:
    good = Loaded("6.11.0", "cd" * 32, "old cmdline", IMAGE, "-s", f"{A} {B}")
    home = paths.LAST_GOOD
    make_tree(root, {f"{home}/vmlinuz": "", f"{home}/image": "", f"{home}/loaded.json": json.dumps(asdict(good))})
    keyring.link(B)
    seen: list[set[str]] = []

    def answer(call: Call) -> Answer:
        if "old cmdline" not in " ".join(call.argv):
            return 1
        seen.append(set(items(configfs)))
        return 0

    runner.answers["kexec"] = answer
    with pytest.raises(kexec.LoadError, match="the last good one is loaded again"):
        kexec.load(ctx, load())
    assert seen == [{B}]
    found = read_loaded(ctx)
    assert found is not None
    assert found.keys == B


# --- load --unlock ------------------------------------------------------------------------------------------------


def test_unlock_asks_once_for_two_with_the_same_passphrase(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring
) -> None:
    asked: list[str] = []
    runner.answers["cryptsetup"] = opens(keyring)
    keys.unlock(ctx, (volume("none", A), volume("none", B)), lambda prompt: asked.append(prompt) or SECRET)  # type: ignore[func-returns-value]
    assert asked == [f"Passphrase for the LUKS volume {A} (/dev/vda2): "]
    assert keyring.joined
    assert keyring.has("logon", f"cryptsetup:{A}")
    assert keyring.has("logon", f"cryptsetup:{B}")


def test_unlock_takes_a_second_try(ctx: Context, runner: FakeRunner, keyring: FakeKeyring) -> None:
    typed = iter(["wrong", SECRET])
    runner.answers["cryptsetup"] = opens(keyring)
    keys.unlock(ctx, (volume("none"),), lambda prompt: next(typed))
    assert keyring.has("logon", f"cryptsetup:{A}")


def test_unlock_gives_up_after_three(ctx: Context, runner: FakeRunner, keyring: FakeKeyring) -> None:
    runner.answers["cryptsetup"] = opens(keyring)
    with pytest.raises(KdumpError, match="No key available") as caught:
        keys.unlock(ctx, (volume("none"),), lambda prompt: "wrong")
    assert len(runner.calls) == 3
    assert "wrong" not in caught.value.message


def test_unlock_of_luks1_says_what_to_do(ctx: Context, runner: FakeRunner, keyring: FakeKeyring) -> None:
    with pytest.raises(KdumpError, match="LUKS1") as caught:
        keys.unlock(ctx, (volume("none", version=1),), lambda prompt: SECRET)
    assert caught.value.hint
    assert not runner.calls


def test_unlock_of_what_is_linked_asks_nobody(ctx: Context, runner: FakeRunner, keyring: FakeKeyring) -> None:
    keyring.link(A)
    keys.unlock(ctx, (volume("none"),), lambda prompt: pytest.fail("asked"))
    assert not runner.calls


def machine(*volumes: CryptVolume, **boot: object) -> Facts:
    one = Target("UUID=x", "ext4", "/var/crash", crypt=volumes)
    return Facts(boot=Boot(**(boot or {"crash_dm_crypt": True})), targets=(one, one))  # type: ignore[arg-type]


def test_unlock_asks_for_what_comes_from_nowhere_else(
    ctx: Context, runner: FakeRunner, keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = machine(volume("keyfile", A), volume("none", B))
    monkeypatch.setattr(reconcile, "collect", lambda ctx, config: facts)
    asked: list[str] = []
    runner.answers["cryptsetup"] = opens(keyring)
    reconcile.unlock(ctx, Config(), lambda prompt: asked.append(prompt) or SECRET)  # type: ignore[func-returns-value]
    assert len(asked) == 1
    assert keyring.held == {("logon", f"cryptsetup:{B}"): b""}


@pytest.mark.parametrize(
    ("boot", "words"),
    [({"crash_dm_crypt": False}, "CONFIG_CRASH_DM_CRYPT"), ({"confined": "in a chroot"}, "in a chroot")],
)
def test_unlock_where_no_key_can_be_handed_over(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, boot: dict[str, object], words: str
) -> None:
    monkeypatch.setattr(reconcile, "collect", lambda ctx, config: machine(volume("none"), **boot))
    with pytest.raises(KdumpError, match=words):
        reconcile.unlock(ctx, Config(), lambda prompt: pytest.fail("asked"))


def test_a_passphrase_may_be_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET} \nmore\n"))
    assert ui.ask("Passphrase: ") == f"{SECRET} "


def test_nobody_there_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(KdumpError, match="no passphrase"):
        ui.ask("Passphrase: ")


def test_a_terminal_that_is_closed_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(prompt: str) -> str:
        raise EOFError

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", ended)
    with pytest.raises(KdumpError, match="no passphrase"):
        ui.ask("Passphrase: ")


# --- the real keyring ---------------------------------------------------------------------------------------------

REAL = """
from kdump_pkg import keyring
ring = keyring.SystemKeyring()
print(ring.has("user", "kdump-pkg:test"), ring.read("user", "kdump-pkg:test"))
ring.join()
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
serial = libc.syscall(248, b"user", b"kdump-pkg:test", b"four", ctypes.c_size_t(4), -4)
print(serial > 0, ring.has("user", "kdump-pkg:test"), ring.read("user", "kdump-pkg:test"))
# As the kernel looks for a key when it loads: through the session keyring of whoever asks.
print(libc.syscall(249, b"user", b"kdump-pkg:test", None, 0) == serial)
libc.syscall(250, 9, ctypes.c_long(serial), ctypes.c_long(-4))
print(ring.has("user", "kdump-pkg:test"))
"""


@pytest.mark.spawns
@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="this machine's kernel has no keyrings: CONFIG_KEYS")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls here are x86_64's")
def test_the_system_keyring() -> None:
    done = subprocess.run([sys.executable, "-B", "-c", REAL], capture_output=True, text=True, timeout=60, check=False)
    if "Function not implemented" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("keyctl(2) is not allowed here, as in most containers")
    assert done.stdout.splitlines() == ["False None", "True True b'four'", "True", "False"], done.stderr
