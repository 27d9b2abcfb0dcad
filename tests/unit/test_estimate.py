"""The verb `estimate`: what it prints, how it looks for the smallest reservation, and how it gives memory back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdump_pkg import config as configuration
from kdump_pkg import crashkernel, estimate, fs, paths, reconcile, rehearsal, ui
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.state import read_image
from kdump_pkg.model import Capture, Config, CryptVolume, Facts, ImageState
from kdump_pkg.plan import estimate as sums
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.render import cpio_archive
from tests import fakes
from tests.fakes import FakeRunner, LiveContext, make_tree

IMAGE = "/boot/initramfs-linux-kdump.img"
NO_MEMORY = "the capture ran out of memory; reserve more"
SIZE = paths.CRASH_SIZE[0]
KERNEL = fakes.kernel(init_size=50 << 20)


def armed(**changes: Any) -> Facts:
    """Everything known: 50 MiB of kernel, 4 of image, 8 unpacked."""
    facts = fakes.facts(**({"kernels": (KERNEL,)} | changes))
    mark = design_capture(Config(), facts).fingerprint
    return replace(facts, image=ImageState(IMAGE, True, mark, 4 << 20, unpacked=8 << 20))


def capture_of(facts: Facts) -> Capture:
    return design_capture(Config(), facts)


@dataclass
class Machine:
    """Facts that the verb reads, rehearsals that capture from `least` MiB on, answers to what is asked."""

    facts: Facts
    least: int = 72
    cma: bool = False
    """Whether its kernel has it: then 56 MiB of its own will do."""
    reason: str = NO_MEMORY
    yes: bool = True
    tried: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    typed: set[bool] = field(default_factory=set)

    def rehearse(self, ctx: Context, config: Config, facts: Facts, wish: rehearsal.Wish) -> SimpleNamespace:
        self.tried.append(wish.crashkernel)
        self.typed.add(wish.type_passphrase)
        request = crashkernel.parse(wish.crashkernel.split(), wish.memory_mib << 20)
        needed = 56 if self.cma and request.cma else self.least
        good = request.size >> 20 >= needed
        return SimpleNamespace(
            captured=good, reason=None if good else self.reason, min_available_kib=9000 if good else None
        )

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.yes


Install = Callable[..., Machine]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def put(facts: Facts, **changes: Any) -> Machine:
        machine = Machine(facts, **changes)
        monkeypatch.setattr(configuration, "load", lambda ctx: Config())
        monkeypatch.setattr(reconcile, "read_facts", lambda ctx, config: machine.facts)
        monkeypatch.setattr(rehearsal, "rehearse", machine.rehearse)
        monkeypatch.setattr(ui, "confirm", machine.confirm)
        return machine

    return put


def run(ctx: Context, *flags: str) -> int:
    return estimate.estimate(ctx, measure="measure" in flags, shrink="shrink" in flags, as_json="json" in flags)


def rehearsed(facts: Facts, **changes: Any) -> str:
    values: dict[str, Any] = {
        "time": 1_764_000_000,
        "fingerprint": capture_of(facts).fingerprint,
        "release": "6.12.1",
        "crashkernel": "256M",
        "captured": True,
        "reserved": 256 << 20,
        "least_kib": 180_000,
    }
    return json.dumps(values | changes)


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_sum(ctx: Context, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(armed())
    assert run(ctx) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["kernel", "50.0", "MiB"]
    need = int(lines[-1].split("crashkernel=")[1].split("M")[0])
    assert f"{need} MiB are needed; 256 MiB are reserved: enough, {256 - need} MiB more than that" in lines
    assert "not rehearsed yet: kdump-pkg rehearse" in lines
    assert lines[-1] == f"proposal: crashkernel={need}M; kdump-pkg setup puts it where the boot loader has it"
    shown = sum(float(line.split(" MiB")[0].split()[-1]) for line in lines[:-3])
    assert need - 4 < shown <= need + 0.1, "what is shown adds up to it"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "captured, and used 80 MiB while it saved"),
        ({"least_kib": None}, "captured"),
        ({"fingerprint": "x"}, "was of another image: kdump-pkg rehearse"),
        ({"captured": False, "reason": NO_MEMORY}, f"saved nothing: {NO_MEMORY}"),
    ],
)
def test_the_last_rehearsal(
    ctx: Context, root: Path, install: Install, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    facts = armed()
    make_tree(root, {paths.REHEARSED: rehearsed(facts, **changes)})
    install(facts)
    assert run(ctx) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("the last rehearsal")]
    assert words in line
    assert "with crashkernel=256M" in line


def test_as_json(ctx: Context, root: Path, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    facts = armed()
    make_tree(root, {paths.REHEARSED: rehearsed(facts)})
    install(facts)
    assert run(ctx, "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == 1
    assert said["crashkernel"] == f"crashkernel={said['need_mib']}M"
    assert (said["reserved_mib"], said["enough"], said["certain"]) == (256, True, True)
    assert said["rehearsed"]["crashkernel"] == "256M"
    assert said["cma"] is None
    assert {"name", "mib", "source"} == set(said["parts"][0])


def test_without_a_capture(ctx: Context, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    machine = install(fakes.facts(kernels=()))
    assert run(ctx) == 0
    out, err = capsys.readouterr()
    assert "no kernel that can capture is installed" in err
    assert "about 256 MiB are needed" in out
    with pytest.raises(KdumpError, match="no kernel that can capture"):
        run(ctx, "measure")
    assert not machine.tried


def test_an_image_that_nobody_measured_is_measured_now(
    ctx: Context, root: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = armed()
    make_tree(root, {IMAGE: cpio_archive("x", bytes(3 << 20))})
    install(replace(facts, image=replace(facts.image, unpacked=None)))
    run(ctx, "json")
    said = json.loads(capsys.readouterr().out)
    (image,) = [part for part in said["parts"] if part["name"] == "image"]
    assert 3 < image["mib"] < 3.5
    assert said["certain"]


# --- by rehearsing ------------------------------------------------------------------------------------------------


def measured(root: Path, ctx: Context) -> int | None:
    make_tree(root, {IMAGE: cpio_archive("kdump/fingerprint", capture_of(armed()).fingerprint.encode())})
    return read_image(ctx, IMAGE).least_mib


@pytest.mark.parametrize("least", [4, 60, 72, 76, 88, 92, 96, 120, 200])
def test_the_smallest_is_found(
    ctx: Context, root: Path, install: Install, capsys: pytest.CaptureFixture[str], least: int
) -> None:
    machine = install(armed(), least=least)
    assert run(ctx, "measure") == 0
    found = max(least, 60)  # below that the kernel can't be loaded, so it isn't tried
    need = math.ceil((found + max(8, found / 10)) / 4) * 4
    out = capsys.readouterr().out
    assert f"proposal: crashkernel={need}M;" in out
    assert machine.tried[-1] == f"{need}M", "the last rehearsal is one of what is proposed"
    plain = [words for words in machine.tried if "cma" not in words]
    assert len(plain[:-1]) == len(set(plain[:-1])) <= 12, "but for the last one, none is tried twice"
    assert all(f"crashkernel={words}: " in out or "cma" in words for words in machine.tried)
    assert measured(root, ctx) == found
    assert machine.typed == {False}


def test_what_was_measured_stays_for_the_next_time(
    ctx: Context, root: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = armed()
    machine = install(replace(facts, image=replace(facts.image, least_mib=72)))
    assert run(ctx) == 0
    assert "crashkernel=80M" in capsys.readouterr().out
    assert not machine.tried


def test_another_reason_than_memory_ends_it(ctx: Context, root: Path, install: Install) -> None:
    machine = install(armed(), least=1000, reason="there is no dump on the disk")
    with pytest.raises(KdumpError, match="another reason than memory: there is no dump on the disk"):
        run(ctx, "measure")
    assert len(machine.tried) == 1
    assert measured(root, ctx) is None


def test_but_not_where_more_has_captured(ctx: Context, root: Path, install: Install) -> None:
    """It is the same image: what it lacks now is memory, whatever the console says."""
    install(armed(), least=76, reason="not done after 600 s")
    assert run(ctx, "measure") == 0
    assert measured(root, ctx) == 76


def test_nothing_captures(ctx: Context, install: Install) -> None:
    machine = install(armed(), least=10_000)
    with pytest.raises(KdumpError, match="no reservation up to 512 MiB captures"):
        run(ctx, "measure")
    assert len(machine.tried) < 12


def test_a_passphrase_is_typed_where_one_has_to_be(ctx: Context, install: Install) -> None:
    target = fakes.target(crypt=(CryptVolume("u", 2, 64 << 10),))
    machine = install(armed(targets=(target,), programs={"cryptsetup": "1"}), least=150)
    assert run(ctx, "measure") == 0
    assert machine.typed == {True}


def test_no_qemu(ctx: Context, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(armed())

    def gone(*args: object) -> None:
        raise KdumpError("qemu-system-x86_64: not found")

    monkeypatch.setattr(rehearsal, "rehearse", gone)
    with pytest.raises(KdumpError, match="not found"):
        run(ctx, "measure")


def test_cma_is_proposed_where_it_captured_and_saves(
    ctx: Context, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = install(armed(), least=92, cma=True)
    assert run(ctx, "measure", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["crashkernel"] == "crashkernel=104M", "it is no more than the other way"
    assert said["cma"]["values"] == ["92M,cma", "68M"], "the plain one last: older kernels take the last one"
    assert (said["cma"]["cost_mib"], said["cma"]["plain_mib"]) == (68, 104)
    assert "92M,cma 68M" in machine.tried
    assert machine.tried[-1] == "104M"


@pytest.mark.parametrize(("least", "cma"), [(92, False), (72, True)])
def test_cma_is_not_proposed_without(
    ctx: Context, install: Install, capsys: pytest.CaptureFixture[str], least: int, cma: bool
) -> None:
    """Where the kernel has none; where it saves next to nothing."""
    machine = install(armed(), least=least, cma=cma)
    assert run(ctx, "measure") == 0
    assert "cma" not in capsys.readouterr().out.replace("92M,cma 76M: not captured", "").replace("=92M,cma", "")
    assert sum("cma" in words for words in machine.tried) <= 1


def test_what_cma_costs_is_said() -> None:
    text = estimate.Cma(("92M,cma", "64M"), 64, 104).text
    assert "crashkernel=92M,cma crashkernel=64M" in text
    assert "64 MiB instead of 104" in text and "10 s" in text and "6.17" in text


# --- giving back --------------------------------------------------------------------------------------------------


@pytest.fixture
def live(root: Path, runner: FakeRunner) -> LiveContext:
    make_tree(root, {SIZE: f"{256 << 20}\n", paths.CRASH_LOADED[0]: "1\n", "/run": None})
    return LiveContext(root=root, runner=runner)


def reading(root: Path, facts: Facts) -> Callable[..., Facts]:
    """Facts that follow what lies in this /sys."""

    def read(*_: object) -> Facts:
        loaded = (root / paths.CRASH_LOADED[0].lstrip("/")).read_text().strip() == "1"
        size = int((root / SIZE.lstrip("/")).read_text().split()[0])
        return replace(facts, boot=replace(facts.boot, crash_loaded=loaded, crash_size=size))

    return read


@pytest.fixture
def giving(
    live: LiveContext, root: Path, runner: FakeRunner, install: Install, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, list[str]]:
    """What was done, in its order."""
    machine = install(armed())
    done: list[str] = []
    loaded = root / paths.CRASH_LOADED[0].lstrip("/")

    def kexec(call: fakes.Call) -> int:
        unload = "-u" in call.argv
        done.append("unload" if unload else f"load into {(root / SIZE.lstrip('/')).read_text().split()[0]}")
        loaded.write_text("0\n" if unload else "1\n")
        return 0

    runner.answers["kexec"] = kexec
    make_tree(root, {IMAGE: b"image", KERNEL.vmlinuz or "": b"kernel"})
    monkeypatch.setattr(reconcile, "read_facts", reading(root, machine.facts))
    return machine, done


def need_of(facts: Facts) -> int:
    return sums.estimate(facts, capture_of(facts), None).need_mib


def test_shrinking(
    live: LiveContext, root: Path, giving: tuple[Machine, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    machine, done = giving
    need = need_of(machine.facts)
    assert run(live, "shrink") == 0
    assert done == ["unload", f"load into {need << 20}"]
    assert machine.asked == [
        f"Give {256 - need} MiB back to the system until the next boot, and load the capture kernel anew into the rest?"
    ]
    assert f"{need} MiB are reserved now" in capsys.readouterr().out


def test_it_asks_so_it_speaks_no_json(live: LiveContext, giving: tuple[Machine, list[str]]) -> None:
    with pytest.raises(KdumpError, match="asks before"):
        run(live, "shrink", "json")
    assert (giving[0].asked, giving[1]) == ([], [])


def test_where_nothing_is_loaded_nothing_is(live: LiveContext, root: Path, giving: tuple[Machine, list[str]]) -> None:
    machine, done = giving
    make_tree(root, {paths.CRASH_LOADED[0]: "0\n"})
    assert run(live, "shrink") == 0
    assert done == []
    assert (root / SIZE.lstrip("/")).read_text().split()[0] == str(need_of(machine.facts) << 20)


def test_no_means_no(live: LiveContext, root: Path, giving: tuple[Machine, list[str]]) -> None:
    machine, done = giving
    machine.yes = False
    assert run(live, "shrink") == 0
    assert done == []
    assert (root / SIZE.lstrip("/")).read_text() == f"{256 << 20}\n"


def test_nothing_in_excess(live: LiveContext, root: Path, giving: tuple[Machine, list[str]]) -> None:
    machine, done = giving
    make_tree(root, {SIZE: f"{need_of(machine.facts) << 20}\n"})
    assert run(live, "shrink") == 0
    assert (machine.asked, done) == ([], [])


def test_a_kernel_that_gives_nothing_back(live: LiveContext, root: Path, giving: tuple[Machine, list[str]]) -> None:
    """It stays armed, with what it had."""
    done = giving[1]

    def refuse(path: Path, data: bytes) -> None:
        raise KdumpError(f"{path}: No such file or directory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fs, "feed", refuse)
        with pytest.raises(KdumpError, match="the kernel gives nothing back"):
            run(live, "shrink")
    assert done == ["unload", f"load into {256 << 20}"]


def test_a_load_that_fails_afterwards_is_said(
    live: LiveContext, runner: FakeRunner, giving: tuple[Machine, list[str]]
) -> None:
    kexec = runner.answers["kexec"]
    assert callable(kexec)
    runner.answers["kexec"] = lambda call: kexec(call) if "-u" in call.argv else 255
    with pytest.raises(KdumpError, match="nothing is loaded now, a crash saves nothing") as caught:
        run(live, "shrink")
    assert "kdump-pkg load" in (caught.value.hint or "")


def test_an_unload_that_fails_changes_nothing(
    live: LiveContext, root: Path, runner: FakeRunner, giving: tuple[Machine, list[str]]
) -> None:
    runner.answers["kexec"] = 1
    with pytest.raises(KdumpError):
        run(live, "shrink")
    assert (root / SIZE.lstrip("/")).read_text() == f"{256 << 20}\n"


def changed(facts: Facts, **boot: object) -> Facts:
    return replace(facts, boot=replace(facts.boot, **boot))  # type: ignore[arg-type]


REFUSED: Sequence[tuple[Callable[[Facts], Facts], str]] = (
    (lambda f: changed(f, confined="in a chroot"), "in a chroot: the reservation is the host's"),
    (lambda f: changed(f, crash_size=0), "no memory is reserved"),
    (lambda f: changed(f, memory_total=None), "guesses in it"),
    (lambda f: replace(f, image=replace(f.image, unpacked=None)), "guesses in it"),
    (lambda f: replace(f, image=replace(f.image, fingerprint="x")), "guesses in it"),
    (lambda f: changed(f, cmdline="crashkernel=512M,high"), "a reservation in two parts"),
    (lambda f: changed(f, load_disabled=True), "kexec_load_disabled is 1"),
)


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_not_given_back(
    live: LiveContext, root: Path, install: Install, change: Callable[[Facts], Facts], words: str
) -> None:
    machine = install(change(changed(armed(), crash_loaded=False)))
    with pytest.raises(KdumpError, match=words):
        run(live, "shrink")
    assert machine.asked == []
    assert (root / SIZE.lstrip("/")).read_text() == f"{256 << 20}\n"


def test_a_stale_image_is_not_taken_out(live: LiveContext, root: Path, install: Install) -> None:
    """It could not be loaded again."""
    facts = changed(armed(), crash_loaded=True)
    machine = install(replace(facts, image=replace(facts.image, fingerprint="x")))
    make_tree(root, {paths.REHEARSED: rehearsed(facts, reserved=64 << 20)})
    with pytest.raises(KdumpError, match="missing or stale"):
        run(live, "shrink")
    assert machine.asked == []
