"""The capture kernel's command line: the system's own, less what is that one's alone, plus what a capture needs."""

from __future__ import annotations

from kdump_pkg import parameters
from kdump_pkg.model import Config, Flavour

LONGEST = 2047 - 160  # COMMAND_LINE_SIZE of x86, less what kexec appends (elfcorehdr=, memmap=)

# Every parameter with its reason; a name that ends in a dot or in `*` is a prefix.
REMOVED: dict[str, str] = {
    "BOOT_IMAGE": "names the system kernel",
    "initrd": "names the system's image",
    "crashkernel": "the capture kernel reserves nothing",
    "root": "the capture mounts the target itself, and systemd would wait for this one",
    "rootfstype": "goes with root=",
    "rootflags": "goes with root=",
    "rootdelay": "goes with root=",
    "ro": "goes with root=",
    "rw": "goes with root=",
    "init": "the image has its own",
    "systemd.unit": "the image has its own",
    "rd.systemd.unit": "the image has its own",
    "rd.break": "would stop the capture at a prompt",
    "single": "would stop the capture at a prompt",
    "emergency": "would stop the capture at a prompt",
    "resume": "a resumed hibernation image would overwrite what is left of the crashed system",
    "resume_offset": "goes with resume=",
    "noresume": "goes with resume=",
    "quiet": "whoever sits before the machine should see that something happens",
    "splash": "no splash screen in the image",
    "plymouth.*": "no splash screen in the image",
    "rd.plymouth": "no splash screen in the image",
    "loglevel": "goes with quiet",
    "rd.udev.log_level": "goes with quiet",
    "systemd.show_status": "goes with quiet",
    "hugepages": "would take all memory there is",
    "hugepagesz": "goes with hugepages=",
    "default_hugepagesz": "goes with hugepages=",
    "hugetlb_cma": "would take all memory there is",
    "cma": "would take all memory there is",
    "kernelcore": "would split the little memory there is",
    "movablecore": "would split the little memory there is",
    "log_buf_len": "a large log buffer costs reserved memory",
    "slub_debug": "costs reserved memory",
    "slab_debug": "costs reserved memory",
    "page_owner": "costs reserved memory",
    "kasan*": "costs reserved memory",
    "swiotlb": "64 MB of bounce buffers would not fit",
    "mem": "belongs to the system kernel's memory map",
    "memmap": "belongs to the system kernel's memory map",
    "isolcpus": "one CPU only",
    "nohz_full": "one CPU only",
    "rcu_nocbs": "one CPU only",
    "maxcpus": "one CPU only",
    "possible_cpus": "one CPU only",
    "threadirqs": "needs more than one CPU to be of use",
    "panic_on_warn": "a mere warning must not end the capture",
    "panic_on_oops": "an oops that the capture survives must not end it",
    "oops": "an oops that the capture survives must not end it",
    "softlockup_panic": "slow is not dead",
    "hung_task_panic": "slow is not dead",
    "nmi_watchdog": "slow is not dead",
    "crash_kexec_post_notifiers": "belongs to the system kernel",
    "printk.always_kmsg_dump": "belongs to the system kernel",
    "kunit*": "belongs to the system kernel",
    "zswap.": "no swap in a capture",
    "systemd.zram": "no swap in a capture",
}

ADDED: dict[str, str] = {
    "irqpoll": "interrupt lines may be in any state, so poll for their handlers (kdump.rst)",
    "nr_cpus=1": "the others are in an unknown state, and each costs memory (kdump.rst)",
    "reset_devices": "drivers must not believe what the old kernel left in the devices (kdump.rst)",
    "panic=10": "a capture that dies reboots after ten seconds instead of hanging for ever",
    "novmcoredd": "device dumps of drivers would be kept in the reserved memory",
    "cgroup_disable=memory": "its bookkeeping costs memory for each page",
    "numa=off": "one node, less memory for its tables",
    "transparent_hugepage=never": "no 2 MiB pages out of so little memory",
    "kfence.sample_interval=0": "its pool costs 2 MiB",
    "hugetlb_cma=0": "no reservation inside the reservation",
    "cma=0": "no reservation inside the reservation",
    "acpi_no_memhotplug": "memory that ACPI announces belongs to the old kernel",
    "pcie_ports=compat": "PCIe port services would use up the interrupt vectors of one CPU",
    "nvme.max_host_mem_size_mb=0": "a drive without memory of its own would take 128 MiB; it works without, but slower",
    "mce=off": "a machine check of the old kernel must not kill the capture",
    "hest_disable": "hardware error sources are the old kernel's business",
    "nokaslr": "randomisation needs memory and protects nobody here",
    "mitigations=off": "nothing untrusted runs here, and it halves the time",
    "initramfs_options=size=90%": "the image may fill more than half of the memory (Linux 6.18 and later)",
}

ADDED_FOR: dict[Flavour, dict[str, str]] = {
    "direct": {},
    "udev": {"udev.children-max=2": "parallel workers would use up the memory"},
    "systemd": {
        "udev.children-max=2": "parallel workers would use up the memory",
        "rd.systemd.gpt_auto=no": "must not wait for a root file system that the capture doesn't need",
        "systemd.volatile=no": "must not wait for a root file system that the capture doesn't need",
    },
}


SYSTEM_ROOT = frozenset({"root", "rootfstype", "rootflags", "rootdelay", "ro", "rw", "init"})
"""Removed from an image's command line, but what starts the whole system needs them."""
ADDED_FOR_SYSTEM: dict[str, str] = {
    "systemd.unit=kdump-save.service": "it saves the dump, and the system is only started as far as that needs",
    "udev.children-max=2": "parallel workers would use up the memory",
    "fsck.mode=skip": "mounting replays the journal; a check costs time and memory",
}


def capture_cmdline(system: str | None, flavour: Flavour, config: Config) -> str:
    """The capture kernel's command line, from that of the system kernel (None: not known here)."""
    whole = config.capture == "system"
    special = [*ADDED_FOR_SYSTEM] if whole else [*ADDED_FOR[flavour]]
    added = [*ADDED, *special, *config.cmdline_add]
    replaced = {_key(word) for word in added}
    kept = [
        word
        for word in _words(system or "")
        if (not _is_removed(word) or (whole and _key(word) in SYSTEM_ROOT))
        and _key(word) not in replaced
        and not _matches(word, config.cmdline_remove)
    ]
    return " ".join([*kept, *(word for word in added if not _matches(word, config.cmdline_remove))])


def _words(text: str) -> list[str]:
    """Parameters up to `--`: the rest is init's."""
    words = parameters.split(text)
    return words[: words.index("--")] if "--" in words else words


def _key(word: str) -> str:
    """Name of a parameter; the kernel takes dashes and underscores for the same."""
    return word.split("=", 1)[0].replace("-", "_")


def _is_removed(word: str) -> bool:
    key = _key(word)
    names = (name.replace("-", "_") for name in REMOVED)
    return any(key.startswith(n.rstrip("*")) if n.endswith((".", "*")) else key == n for n in names)


def _matches(word: str, names: tuple[str, ...]) -> bool:
    return any(word == name or _key(word) == _key(name) == name.replace("-", "_") for name in names)
