"""What runs inside the virtual machine before the crash and after it, pure: /init of the rehearsal's own initramfs.

It does in the least possible what a running system does on the host: opens the storage, mounts it, writes to it, loads
the capture kernel, panics. It speaks through /dev/kmsg, which is on the console at once: what a tty still holds is lost
in a reset. An init that exits ends the machine too, by panic=1.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from kdump_pkg.plan import scratch
from kdump_pkg.plan.console import MARK
from kdump_pkg.plan.faults import Faults
from kdump_pkg.plan.scratch import PASSPHRASE, Volume

Mode = Literal["probe", "crash", "make", "again", "read"]
"""Say that the kernel runs; make the disks and crash; only make them; crash on what is there; copy the dumps."""

PROGRAMS = ("sh", "mount", "umount", "kexec", "insmod", "mkdir", "sync", "sleep", "tar")
"""The system's own, with their libraries: a busybox need not be there, nor have them all."""
FILL_PROGRAMS = ("stat", "fallocate", "head")
PROBED = f"{MARK}it starts"

_HEAD = f"""#!/bin/sh
# First stage of `kdump-pkg rehearse`.
PATH=/bin
DM_DISABLE_UDEV=1
MDADM_NO_UDEV=1
LVM_SUPPRESS_FD_WARNINGS=1
export PATH DM_DISABLE_UDEV MDADM_NO_UDEV LVM_SUPPRESS_FD_WARNINGS
handed=

say() {{
    printf '<1>{MARK}%.400s\\n' "$*" >/dev/kmsg
}}
restart() {{
    echo b >/proc/sysrq-trigger
    exit 1
}}
give_up() {{
    say "failed: $*"
    restart
}}
run() {{
    # shellcheck disable=SC2116 # one line of many
    words=$("$@" 2>&1) || give_up "$1: $(echo $words)"
}}
# part NAME: the node of the partition of that name, into `node`. Controllers look for their disks in threads.
part() {{
    tries=0
    while [ "$tries" -lt 150 ]; do
        for uevent in /sys/class/block/*/uevent; do
            while IFS= read -r word; do
                [ "$word" = "PARTNAME=$1" ] || continue
                node=${{uevent%/uevent}}
                node=/dev/${{node##*/}}
                return
            done <"$uevent"
        done
        tries=$((tries + 1))
        sleep 0.1
    done
    give_up "the disk $1 did not appear"
}}
"""

_LAYERS = {
    "md": """
# make_md NODE UUID DEVICE DEVICE
make_md() {
    node=$1 id=$2
    shift 2
    run mdadm --create "$node" --run --metadata=1.2 --level=1 --raid-devices=$# --uuid="$id" --homehost=any \\
        --bitmap=internal --assume-clean "$@"
}
open_md() {
    node=$1 id=$2
    shift 2
    run mdadm --assemble "$node" --run --uuid="$id" "$@"
}
""",
    "crypt": f"""
keys=/sys/kernel/config/crash_dm_crypt_keys
# make_crypt DEVICE UUID KIB: Argon2 with so much memory, or PBKDF2, which needs none.
make_crypt() {{
    cost='--pbkdf=pbkdf2 --pbkdf-force-iterations=1000'
    [ "$3" -eq 0 ] || cost="--pbkdf=argon2id --pbkdf-memory=$3 --pbkdf-force-iterations=4 --pbkdf-parallel=1"
    # shellcheck disable=SC2086 # several words
    run cryptsetup luksFormat --batch-mode --type=luks2 --uuid="$2" $cost --key-file=/passphrase "$1"
    open_crypt "$1" "$2"
}}
# Where the kernel can, the key goes to the capture kernel as kdump-pkg hands it over.
open_crypt() {{
    if [ -d "$keys" ] && [ "$hand_over" != "${{hand_over#* "$2" }}" ]; then
        run cryptsetup open --key-file=/passphrase --link-vk-to-keyring="@u::%logon:cryptsetup:$2" "$1" "scratch-$2"
        run mkdir "$keys/$2"
        echo "cryptsetup:$2" >"$keys/$2/description" || give_up "the kernel took no key"
        handed="$handed $2"
    else
        run cryptsetup open --key-file=/passphrase "$1" "scratch-$2"
    fi
}}
printf %s {shlex.quote(PASSPHRASE)} >/passphrase
""",
    "lvm": """
# make_lvm DEVICE GROUP NAME
make_lvm() {
    run lvm pvcreate -y -ff "$1"
    run lvm vgcreate "$2" "$1"
    run lvm lvcreate -y -Wn -Zn -l 100%FREE -n "$3" "$2"
}
open_lvm() {
    run lvm vgchange -ay "$2"
}
""",
}

_FILES = """
# attach MODE WHERE TYPE OPTIONS DEVICE
attach() {
    mkdir -p "$2"
    words=$(mount -t "$3" -o "$1,$4" "$5" "$2" 2>&1)
}
subvolume() {
    case $1 in */*) run mkdir -p "/top/${1%/*}" ;; esac
    [ -d "/top/$1" ] || run btrfs subvolume create "/top/$1"
}
# use NUMBER TYPE OPTIONS DEVICE: a target. A disk that can't be written to is mounted as far as it goes.
use() {
    attach rw "/target/$1" "$2" "$3" "$4" && return
    case $KDUMP_REHEARSAL in make | crash) give_up "what was made can't be mounted: $words" ;; esac
    attach ro "/target/$1" "$2" "$3" "$4" || say "unreadable $1: $words"
}
# there NUMBER DIRECTORY: what lies there before the crash.
there() {
    for entry in "/target/$1$2"/*/; do
        entry=${entry%/}
        [ ! -d "$entry" ] || say "there $1 ${entry##*/}"
    done
}
# fill NUMBER BYTES: leave so much room.
fill() {
    # shellcheck disable=SC2046 # two words
    set -- "$1" "$2" $(stat -f -c '%a %S' "/target/$1")
    bytes=$(($3 * $4 - $2))
    [ "$bytes" -le 0 ] || fallocate -l "$bytes" "/target/$1/filler" 2>/dev/null ||
        head -c "$bytes" /dev/zero >"/target/$1/filler"
    sync
}
check() {
    number=$1
    shift
    [ -x "/bin/$1" ] || return
    # shellcheck disable=SC2116 # one line of many
    if words=$("$@" 2>&1); then say "sound $number"; else say "unsound $number: $(echo $words)"; fi
}
"""

_START = f"""
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
[ "$KDUMP_REHEARSAL" != probe ] || {{ say '{PROBED.removeprefix(MARK)}'; restart; }}
while read -r module; do
    insmod "/modules/$module" 2>/dev/null
done </modules/order
mount -t configfs configfs /sys/kernel/config 2>/dev/null
mkdir -p /run/lock /tmp
say "start $KDUMP_REHEARSAL"
"""

_LOAD = """
size=0
for file in /sys/kernel/kexec/crash_size /sys/kernel/kexec_crash_size; do
    [ -r "$file" ] && read -r size <"$file" && break
done
say "reserved $size"
[ "$size" -gt 0 ] || give_up 'nothing was reserved'
[ -z "$handed" ] || say "keys$handed"
IFS= read -r cmdline </cmdline
read -r methods </methods
for method in $methods; do
    if words=$(kexec -p "$method" --initrd=/image --command-line="$cmdline" /vmlinuz 2>&1); then
        say "loaded by $method"
        work
        echo c >/proc/sysrq-trigger
    fi
    # shellcheck disable=SC2116 # one line of many
    refused="$refused kexec $method: $(echo $words);"
done
give_up "the kernel took no capture kernel:$refused"
"""


def script(
    volumes: Sequence[Volume] = (),
    faults: Faults = Faults(),  # noqa: B008 - frozen
    argon2: Mapping[str, int] = MappingProxyType({}),
    hand_over: Iterable[str] = (),
) -> str:
    """The whole /init; the kernel hands it the mode as the variable KDUMP_REHEARSAL, from its command line.

    ARGON2: KiB that checking a volume's passphrase takes; HAND_OVER: volumes whose keys the capture kernel gets.
    """
    kinds = {layer.kind for volume in volumes for layer in volume.first.layers}
    parts = [_HEAD, _START, *(text for kind, text in _LAYERS.items() if kind in kinds)]
    if "crypt" in kinds:
        parts.append(f"hand_over={shlex.quote(' '.join(['', *sorted(hand_over), '']))}\n")
    parts.append(_FILES)
    made = [line for volume in volumes for line in [*scratch.make(volume, argon2), *_prefill(volume, faults)]]
    parts.append(_function("make", [*made, "sync"]))  # what was there long before the crash was on the disk
    parts.append(_function("reopen", [line for v in volumes for line in _reopen(v)]))
    parts.append(_function("work", _work(volumes)))
    parts.append(_function("copy", _copy(volumes)))
    parts.append("case $KDUMP_REHEARSAL in make | crash) make ;; *) reopen ;; esac\n")
    parts.append("case $KDUMP_REHEARSAL in make | read) copy; sync; restart ;; esac\n")
    return "".join([*parts, _LOAD])


def _function(name: str, lines: Sequence[str]) -> str:
    body = "\n".join(f"    {line}" for line in lines or [":"])
    return f"\n{name}() {{\n{body}\n}}\n"


def _prefill(volume: Volume, faults: Faults) -> list[str]:
    """Files that were asked for, then the room that is to be left."""
    lines = []
    for number, _ in volume.targets:
        files = f"/files/{number}"
        lines.append(f"[ ! -d {files} ] || tar -C {files} -cf - . | tar -C /target/{number} -xf -")
        if number in faults.room:
            lines.append(f"fill {number} {faults.room[number]}")
    return lines


def _reopen(volume: Volume) -> list[str]:
    """One that can't be written to stays closed until it is read: opening it would be a story of its own."""
    lines = [f"    {line}" for line in scratch.open_(volume)]
    return ['if [ "$KDUMP_REHEARSAL" = read ]; then', *lines, "fi"] if volume.readonly else scratch.open_(volume)


def _work(volumes: Sequence[Volume]) -> list[str]:
    """What is there before the crash; then something that was being written when it came."""
    targets = [(number, target) for volume in volumes for number, target in volume.targets]
    lines = [f"there {number} {shlex.quote(target.path)}" for number, target in targets]
    return lines + [f"{{ echo unsaved >/target/{number}/keep-me; }} 2>/dev/null" for number, _ in targets]


def _copy(volumes: Sequence[Volume]) -> list[str]:
    """The directories of the dumps as an archive onto the disk for it; then everything closed, as after a boot."""
    lines = [f'if [ "$KDUMP_REHEARSAL" = read ]; then part {scratch.OUT}', "set --"]
    for volume in volumes:
        for number, target in volume.targets:
            path = shlex.quote(f"{number}{target.path}")
            lines.append(f'[ ! -d /target/{path} ] || set -- "$@" {path}')
    lines.append('run tar -C /target --exclude=filler -cf "$node" -T /dev/null "$@"')
    lines.append("say copied")
    lines.append("fi")
    return lines + [line for volume in volumes for line in scratch.close(volume)]
