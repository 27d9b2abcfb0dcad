# shellcheck shell=sh disable=SC2034,SC2154 # the parts share their names
# Part of kdump-save: the device of a target, its mount, the dump's directory. See layers.sh for what lies in between.

dump=                           # the dump's directory, once there is one that can be written to
base=                           # what stands before its path on the target
opened=                         # whether we have mounted something

# locate SPEC: the device's node, into `node`.
locate() {
    case $1 in
    UUID=*) node=by-uuid ;;
    PARTUUID=*) node=by-partuuid ;;
    LABEL=*) node=by-label ;;
    PARTLABEL=*) node=by-partlabel ;;
    *) node=$root$1 && [ -e "$node" ] && return ;;
    esac
    node=$root/dev/disk/$node/${1#*=}
    [ -e "$node" ] && return
    # By its path: the shell of busybox prefers its own applet, which knows no partitions' names.
    for finder in "$root/usr/bin/findfs" "$root/usr/sbin/findfs" findfs; do
        [ ! -x "$finder" ] || break
    done
    : >"$work/node"
    bounded "$finder" "$1" >"$work/node" 2>/dev/null && read -r node <"$work/node" && [ -n "$node" ]
}

# Often at first: a disk that comes late costs little then.
pause() {
    patient=$((${patient:-0} + 1))
    if [ "$patient" -le 5 ]; then sleep 0.2 2>/dev/null && return; fi
    sleep 1
}

# The node of the file system, into `node`, within the target's own limit; its layers are opened on the way.
reach() {
    patient=0 why='' cause=''
    until present; do
        open_layers && present && return
        [ -z "$locked" ] || return 1
        pause
        clock
        [ "$now" -lt "$limit" ] || { why="${why:-$device did not appear within $device_timeout s}"; return 1; }
    done
}

# On a btrfs of several devices the kernel has to know them all.
mount_target() {
    [ "$devices" -le 1 ] || try btrfs device scan || say "btrfs: $why"
    try mount -t "$fstype" -o "$access" "$node" "$mount_point" && return
    status=$?
    clock
    [ "$devices" -gt 1 ] && [ "$now" -lt "$limit" ] || return "$status"
    sleep 1         # another device may be on its way
    mount_target
}

# Its directory as the running system has mounted it, which may be read-only, as the kernel has started it.
use_mounted() {
    base=${mounted%"$path"}
    [ "$base" != "$mounted" ] || { base=$mounted path=''; }
    base=$root$base
    case ,$access, in
    *,ro,*) try mount -o remount,rw "$root$found" || return ;;
    esac
}

# Whether the system has mounted the target there: else the directory is one of the file system below.
is_mounted() {
    [ -n "$mounted" ] && find_mount "$mounted" && locate "$device" || return
    [ "$(readlink -f "$root$source")" = "$(readlink -f "$node")" ]
}

# find_mount DIRECTORY: where its file system is mounted, into `found`, of what, into `source`, and how, into `access`.
find_mount() {
    found=/ source='' access=
    while read -r what point _ how _; do
        case $1/ in "${point%/}"/*) [ "${#point}" -lt "${#found}" ] || found=$point source=$what access=$how ;; esac
    done <"$root/proc/mounts"
}

# Mounting replays the journal of a file system that the crash left dirty; a check would take memory and time.
open_target() {
    locked='' partial='' base=$mount_point
    limit_to "$device_timeout"
    if [ "$KDUMP_CAPTURE" = system ] && is_mounted; then
        use_mounted || return
    else
        reach || return
        limit_to "$device_timeout"
        access=rw${options:+,$options}
        case $fstype in vfat | exfat) access=$access,umask=0077 ;; esac
        try mkdir -p "$mount_point" && mount_target || return
        opened=yes
    fi
    limit_to "$KDUMP_STEP_TIMEOUT"
    make_dump
}

# The directory with a first `meta` in it, and room for what comes: on a full disk one needs the other.
make_dump() {
    directory=$base$path/$dump_name
    try mkdir -p "$base$path" || return
    make_directory || { make_room "$base$path" && make_directory; } || return
    dump=$directory
    write_meta started
    written=$?
    make_room "$base$path" '' "${directory##*/}"
    [ "$written" -eq 0 ] || write_meta started || {
        status=$?
        abandon
        return "$status"
    }
}

# Nothing could be written to it: not even a word of ours is in it.
abandon() {
    clock
    limit=$((now + 20))
    bounded rm -f "$dump/meta.new" "$dump/meta" "$dump/save.log" && bounded rmdir "$dump"
    dump=
} 2>/dev/null

# Into `directory`. A crash loop may bring the same second twice.
make_directory() {
    try new_directory "$directory" && read -r directory <"$work/directory"
}

new_directory() {
    count=1 new=$1
    until mkdir "$new"; do
        [ -d "$new" ] && [ "$count" -lt 100 ] || return 1
        count=$((count + 1))
        new=$1.$count
    done
    printf '%s\n' "$new" >"$work/directory"
}

# From here on nothing is logged to the target any more.
close_target() {
    if [ -n "$dump" ]; then
        keep_log
        dump=
        [ -n "$opened" ] || bounded sync
    fi
    [ -n "$opened" ] || return 0
    opened=
    step "unmount$suffix" unmount
}

unmount() {
    closing
    try umount "$mount_point" && return
    status=$?
    bounded sync
    return "$status"
}
