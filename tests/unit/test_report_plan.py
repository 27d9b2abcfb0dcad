"""What a report says besides the sentence: taint, packages, the first since, what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdump_pkg.model.crash import Crash, Frame, LoadedModule, Owner, Report, Verification, VmcoreFacts
from kdump_pkg.model.evidence import Change, Evidence, Source
from kdump_pkg.plan import origin
from kdump_pkg.plan import report as planning
from kdump_pkg.plan.taint import MEANINGS, spell_out
from tests.reports_made import CHANGES, CRASH, ENTRY, EVIDENCE, TIME, UPGRADED, VERIFICATION, rich


def made(crash: Crash = CRASH, evidence: Evidence = EVIDENCE, **more: object) -> Report:
    return planning.make(replace(ENTRY, **more), crash, evidence)  # type: ignore[arg-type]


def advice(report: Report) -> str:
    return "\n".join(f"{a.text} $ {a.command}" for a in report.advice)


# --- taint ---


def test_all_letters_of_the_kernel_are_known() -> None:
    assert set(MEANINGS) == set("PFSRMBUDAWCIOELKXTNJ")


def test_modules_that_taint_are_named() -> None:
    found = {t.letter: t.meaning for t in spell_out(CRASH)}
    assert list(found) == ["P", "O", "E"]
    assert all(meaning.endswith(": nvidia_drm and nvidia") for meaning in found.values())


def test_taint_is_spelled_out_whatever_it_holds() -> None:
    many = tuple(LoadedModule(f"m{n}", "O") for n in range(40))
    found = spell_out(Crash(taint="G  O W ?W", modules=many))
    assert [t.letter for t in found] == ["O", "W", "?"]
    assert found[0].meaning.endswith("m11 and 28 others")
    assert found[2].meaning == "not known to this version of kdump-pkg"


# --- packages ---

VERSIONS = {
    ("linux", "6.17.8.arch1-1"): "6.17.8-arch1-1",
    ("linux-lts", "6.12.58-1"): "6.12.58-1-lts",
    ("linux-zen", "6.17.8.zen1-1"): "6.17.8-zen1-1-zen",
    ("linux-hardened", "6.16.12.hardened1-1"): "6.16.12-hardened1-1-hardened",
    ("linux-cachyos", "6.17.8-2"): "6.17.8-2-cachyos",
    ("linux-rt", "6.17.rt5.arch1-1"): "6.17-rt5-arch1-1-rt",
}


@pytest.mark.parametrize(("package", "version"), VERSIONS)
def test_a_release_is_that_of_one_package(package: str, version: str) -> None:
    release = VERSIONS[package, version]
    for other, its_version in VERSIONS:
        change = Change(other, "upgraded", its_version, "", 1)
        assert origin.is_of(change, release, None) == ((other, its_version) == (package, version))
    assert not origin.is_of(Change("linux-headers", "upgraded", version, "", 1), "6.17.8-arch1-1", None)
    assert not origin.is_of(Change(package, "upgraded", version, "", 1), release, Source("linux-other", "1"))
    assert not origin.is_of(Change(package, "upgraded", version, "", 1), "", None)


def test_owners() -> None:
    found = origin.owners(CRASH, TIME, EVIDENCE)
    assert found == (
        Owner("", "linux", "6.17.8.arch1-1", UPGRADED),
        Owner("nouveau", "linux", "6.17.8.arch1-1", UPGRADED),
        Owner("nvidia_drm", "nvidia-dkms", "580.105.08-2", UPGRADED + 40, out_of_tree=True),
        Owner("nvidia", "nvidia-dkms", "580.105.08-2", UPGRADED + 40, out_of_tree=True),
    )


def test_the_version_is_the_one_that_was_loaded() -> None:
    """What was upgraded between boot and crash was not in memory yet."""
    later = Change("nvidia-dkms", "upgraded", "590.1-1", "580.105.08-2", TIME - 60)
    found = origin.owners(CRASH, TIME, replace(EVIDENCE, changes=(later, *CHANGES)))
    assert {o.version for o in found if o.package == "nvidia-dkms"} == {"580.105.08-2"}


def test_a_kernel_that_is_gone_is_known_by_pacmans_log() -> None:
    """The usual case on Arch: upgraded since, its modules are no more on the disk."""
    found = origin.owners(CRASH, TIME, replace(EVIDENCE, sources={}))
    assert found == (
        Owner("", "linux", "6.17.8.arch1-1", UPGRADED),
        Owner("nouveau", "linux", "6.17.8.arch1-1", UPGRADED),
    )


def test_nothing_is_known_of_any_package() -> None:
    assert origin.owners(CRASH, TIME, Evidence()) == ()
    assert made(evidence=Evidence()).first_since == ""


def test_without_a_log_of_pacman_the_installed_version_counts() -> None:
    found = origin.owners(CRASH, TIME, replace(EVIDENCE, changes=()))
    assert [(o.module, o.version, o.upgraded) for o in found][:3:2] == [
        ("", "6.17.8.arch1-1", None),
        ("nvidia_drm", "580.105.08-3", None),
    ]


# --- the first since ---

FIRST = (
    "the first crash since linux was upgraded to 6.17.8.arch1-1 and nvidia-dkms was upgraded to 580.105.08-2, "
    "2 days 6 h before it"
)


def test_first_since() -> None:
    assert rich().first_since == FIRST


def test_a_crash_between_takes_the_first_away() -> None:
    between = replace(EVIDENCE.others[0], time=TIME - 100, signature="1" * 16)
    assert made(evidence=replace(EVIDENCE, others=(between,))).first_since == ""


def test_the_same_crash_before_the_upgrade_acquits_it() -> None:
    before = replace(EVIDENCE.others[-1], signature=CRASH.signature)
    report = made(evidence=replace(EVIDENCE, others=(before,)))
    assert report.first_since == ""
    assert report.seen == (before.id,)
    assert "go back" not in advice(report)


def test_an_old_upgrade_says_nothing() -> None:
    changes = tuple(replace(c, time=c.time - 90 * 86400) for c in CHANGES)
    assert made(evidence=replace(EVIDENCE, changes=changes)).first_since == ""


def test_only_what_the_crash_went_through_counts() -> None:
    """firefox was upgraded an hour before; nobody cares."""
    assert "firefox" not in rich().first_since
    alone = replace(CRASH, modules=(), trace=CRASH.trace[:3])
    assert "nvidia" not in made(alone).first_since


def test_deeds_have_their_words() -> None:
    for deed, words in (("installed", "was installed as"), ("downgraded", "was downgraded to")):
        change = Change("linux", deed, "1-1", "", 100)  # type: ignore[arg-type]
        assert origin.first_since([change], 160, []) == f"the first crash since linux {words} 1-1, 1 min before it"


def test_seen_before() -> None:
    report = rich()
    assert report.seen == tuple(other.id for other in EVIDENCE.others[:2])
    assert made(replace(CRASH, signature="")).seen == ()
    assert ENTRY.id not in made(evidence=replace(EVIDENCE, others=(ENTRY,))).seen


# --- advice ---


def test_going_back() -> None:
    assert (
        "pacman -U /var/cache/pacman/pkg/linux-6.17.7.arch1-2-x86_64.pkg.tar.zst "
        "/var/cache/pacman/pkg/nvidia-dkms-580.105.08-1-x86_64.pkg.tar.zst"
    ) in advice(rich())
    gone = advice(made(evidence=replace(EVIDENCE, cached=EVIDENCE.cached[:1])))
    assert "Arch Linux Archive" in gone and "pacman -U" not in gone


def test_a_kernel_that_was_not_rebooted_into() -> None:
    newer = Change("linux", "upgraded", "6.17.9.arch1-1", "6.17.8.arch1-1", TIME - 600)
    report = made(evidence=replace(EVIDENCE, changes=(newer, *CHANGES)))
    assert report.owners[0] == Owner("", "linux", "6.17.8.arch1-1", UPGRADED)
    assert "linux was upgraded to 6.17.9.arch1-1 before the crash, without a reboot into it" in advice(report)
    assert "go back" not in advice(report)
    booted = advice(made(replace(CRASH, uptime=60), replace(EVIDENCE, changes=(newer, *CHANGES))))
    assert "the older kernel was booted after that all the same: /boot may not have been mounted" in booted
    unknown = advice(made(replace(CRASH, uptime=None), replace(EVIDENCE, changes=(newer, *CHANGES))))
    assert "but the older kernel ran. Boot the newer one" in unknown


def test_a_module_from_elsewhere_is_its_makers() -> None:
    crash = replace(CRASH, where=Frame("nv_open", 1, 2, "nvidia"))
    told = advice(made(crash))
    assert "nvidia, from the package nvidia-dkms 580.105.08-2: it is no part of the kernel" in told
    assert "module_blacklist=nvidia" in told and "nvidia-bug-report.sh" in told
    assert "Arch's issue tracker" not in told


def test_a_module_that_no_package_owns() -> None:
    crash = replace(CRASH, where=Frame("f", 1, 2, "mine"), modules=(LoadedModule("mine", "OE"),))
    assert "mine, from no package of this system" in advice(made(crash))


def test_a_module_of_the_kernel_is_reported_to_who_answers_for_it() -> None:
    told = advice(rich())
    assert "Report it as a bug of linux 6.17.8.arch1-1, in the module nouveau" in told
    assert "drm trackers" in told and "without nvidia_drm and nvidia, too" in told
    assert "pacman -S linux-lts linux-lts-headers" in told


KINDS = {
    "sysrq": ("Nothing broke", "setup --panic-on-hang", "!issue tracker"),
    "mce": ("rasdaemon", "memtest86+", "!issue tracker"),
    "oom": ("vm.panic_on_oom", "!issue tracker"),
    "hung task": ("foreach UN bt", f"kdump-pkg debug {ENTRY.id} --tool crash"),
    "nmi": ("ipmitool", "!issue tracker"),
    "warning": ("panic_on_warn",),
    "stack overflow": ("stack is small",),
    "soft lockup": ("issue tracker", "!overloaded"),
    "unknown": ("tells of no crash", "!issue tracker"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_advice(kind: str) -> None:
    told = advice(made(replace(CRASH, kind=kind, address=None)))  # type: ignore[arg-type]
    for word in KINDS[kind]:
        assert (word[1:] not in told) if word.startswith("!") else (word in told)


def test_a_virtual_machine_may_only_be_slow() -> None:
    for kind in ("soft lockup", "hard lockup", "rcu stall"):
        crash = replace(CRASH, kind=kind, hardware="QEMU Standard PC (Q35 + ICH9, 2009)")
        assert "overloaded" in advice(made(crash))


def test_panics_that_have_a_name() -> None:
    root = advice(made(Crash(kind="panic", panic="VFS: Unable to mount root fs on unknown-block(0,0)")))
    assert "mkinitcpio -P" in root
    assert "Process 1 ended" in advice(made(Crash(kind="panic", panic="Attempted to kill init! exitcode=0x00000009")))


FLIPS = {
    0x18: False, 0x1_0000_0000: True, 0xFFFB_8881_0000_1234: True, 0xFFFD_8881_0000_1234: True,
    0xFFFF_8881_0000_1234: False, 0x6B6B_6B6B_6B6B_6B6B: False, 0xDEAD_0000_0000_0122: False, 1 << 70: False,
    0xDFFF_FC00_0000_0003: False,
}  # fmt: skip


@pytest.mark.parametrize("address", FLIPS)
def test_one_bit_off(address: int) -> None:
    """Bits 47 to 63 are all set in the kernel's own addresses; poison has more than one of them wrong."""
    assert ("memtest" in advice(made(replace(CRASH, address=address)))) == FLIPS[address]


def test_bad_pages_ask_for_memtest() -> None:
    assert "memtest" in advice(made(replace(CRASH, taint="B")))
    assert "memtest" in advice(made(replace(CRASH, words="BUG: Bad page state in process x  pfn:1")))


def test_crashes_in_a_row() -> None:
    assert "crashed 4 times" in made(evidence=replace(EVIDENCE, in_a_row=4)).advice[0].text
    assert "in a short time" not in advice(rich())


def test_an_encrypted_dump_is_decrypted_first() -> None:
    report = made(Crash(release="6.17.8-arch1-1"), replace(EVIDENCE, has_log=False), encrypted=True, log="")
    assert report.encrypted
    assert [a.command for a in report.advice] == [f"kdump-pkg decrypt {ENTRY.id} --identity KEY-FILE"]


def test_without_a_log_it_says_so() -> None:
    report = made(Crash(release="6.1"), replace(EVIDENCE, has_log=False), vmcore="")
    assert "No log was saved" in advice(report)
    assert "debug" not in advice(report) and "issue tracker" not in advice(report)


def test_a_log_that_may_be_in_the_memory() -> None:
    """Of a dump that others have made there is no word of the capture."""
    bare = made(Crash(release="6.1"), replace(EVIDENCE, has_log=False), log="")
    assert {"pacman -S makedumpfile", f"kdump-pkg info {ENTRY.id}"} < {a.command for a in bare.advice}
    foreign = made(Crash(release="6.1"), replace(EVIDENCE, has_log=False), log="", maker="ArchWiki")
    assert "pacman -S makedumpfile" in advice(foreign) and "what the capture said" not in advice(foreign)


def test_what_nothing_but_its_path_finds() -> None:
    report = made(maker="unknown", id="vmcore.1", path="/home/me/vmcore.1", vmcore="/home/me/vmcore.1")
    assert "kdump-pkg debug /home/me/vmcore.1" in {a.command for a in report.advice}


def test_a_damaged_dump_is_named_first() -> None:
    report = planning.make(ENTRY, CRASH, EVIDENCE, VERIFICATION, None)
    assert report.advice[0].text.startswith("The dump is damaged")
    good = planning.make(ENTRY, CRASH, EVIDENCE, Verification(), None)
    assert "damaged" not in advice(good)


def test_missing_drgn_is_worth_a_word() -> None:
    missing = VmcoreFacts(missing="drgn is not installed: pacman -S drgn")
    assert "pacman -S drgn" in advice(planning.make(ENTRY, CRASH, EVIDENCE, None, missing))


def test_a_dump_without_memory_holds_no_secrets() -> None:
    assert "passwords" in advice(made())
    assert "passwords" not in advice(made(vmcore=""))
    assert "Hand it to somebody, the log and this report." in advice(made(vmcore=""))


def test_names_are_quoted_for_the_shell() -> None:
    told = advice(made(id="crash; rm -rf $HOME\n", maker="ArchWiki"))
    assert "kdump-pkg debug 'crash; rm -rf $HOME�'" in told
    assert "kdump-pkg pin" not in told
