# shellcheck shell=sh disable=SC2034,SC2154 # the parts share their names
# Part of kdump-save: md, LUKS and LVM between disk and file system, opened from the disk up. Nothing is opened while the
# file system's device is there, whoever brought it. No udev is waited for, even where it runs: the tools make the nodes.

locked=                         # a layer that only a passphrase opens
asking=                         # whether we may ask for it

export DM_DISABLE_UDEV=1 MDADM_NO_UDEV=1
lvm_config='devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 } '
lvm_config="$lvm_config"'activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 } '
lvm_config="$lvm_config"'global { use_lvmpolld=0 thin_check_executable="" cache_check_executable="" }'

# Before anybody asks for them: mdadm does by a shell, and that of busybox prefers its own modprobe, which can't unpack
# every module. In the flavour `direct` they are there already.
load_modules() {
    for loader in "$root/usr/bin/modprobe" "$root/usr/sbin/modprobe"; do
        [ ! -x "$loader" ] || break
    done
    [ "$KDUMP_FLAVOUR:$KDUMP_CAPTURE" != direct:image ] && [ -x "$loader" ] || return 0
    set --
    for module in $KDUMP_MODULES; do
        set -- "$@" "${module%\?}"
    done
    limit_to 30
    [ $# -eq 0 ] || bounded "$loader" -qa "$@" >/dev/null 2>&1
}

# The file system's device, into `node`. Where there are layers, what doesn't lie on top of them is a part of an array
# that only looks like it: the superblock of old ones is at the end.
present() {
    [ -n "$layers" ] || { locate "$device"; return; }
    layer_node "${layers##* }"
    [ ! -e "$node" ] || return 0
    locate "$device" && is_mapped "$node"
}

is_mapped() {
    target=$1
    [ ! -L "$1" ] || target=$(readlink -f "$1")
    case ${target#"$root"/dev/} in
    dm-* | mapper/* | md*) ;;
    *) return 1 ;;
    esac
}

# layer_node LAYER: the node that it has once we have opened it, into `node`.
layer_node() {
    case $1 in
    md:*) node=${1#*:} node=$root/dev/md/kdump-${node%%[:-]*} ;;
    crypt:*) node=$root/dev/mapper/kdump-${1#*:} ;;
    lvm:*) node=$root/dev/${1#*:} ;;
    *) node= ;;
    esac
}

# Those that are there already are passed over.
open_layers() {
    before=
    for layer in $layers; do
        under=$before before=$layer
        layer_node "$layer"
        [ ! -e "$node" ] || continue
        case $layer in
        md:*) open_md "${layer#*:}" ;;
        crypt:*) open_crypt "${layer#*:}" ;;
        lvm:*) try lvm lvchange -ay --sysinit --nolocking --config "$lvm_config" "${layer#*:}" ;;
        *) true ;;
        esac || {
            status=$?
            # the last try is cut short, and says less than those before
            [ "$status" -eq 124 ] && [ -n "$cause" ] || cause="$layer: $why"
            why=$cause
            return "$status"
        }
    done
}

# open_md UUID: whole if it can be had, after a while without the members that are missing.
open_md() {
    layer_node "md:$1"
    try mdadm --assemble "$node" --config=partitions "--uuid=$1" && return
    failed=$?
    [ ! -e "$node" ] || bounded mdadm --stop "$node" >/dev/null 2>&1    # it holds the members, but doesn't run
    clock
    [ "$patient" -ge 10 ] || [ $((limit - now)) -le $((device_timeout / 2)) ] || return "$failed"
    try mdadm --assemble "$node" --config=partitions "--uuid=$1" --run
}

# open_crypt UUID: by the key that the crashed kernel handed over, else by a passphrase if we may ask.
open_crypt() {
    # As for the file system: the superblock of an old array is at its end.
    locate "UUID=$1" || node=
    case $under in md:*) is_mapped "$node" || layer_node "$under" ;; esac
    [ -e "$node" ] || { why="its device is not there"; return 1; }
    if [ -z "$asking" ]; then
        restore_keys && try sacrifice cryptsetup open --disable-locks --volume-key-keyring "%user:cryptsetup:$1" \
            "$node" "kdump-$1" && return
        locked=$1
        return 1
    fi
    ask_for "$1" "$node"
}

# The kernel puts the keys that were reserved with the crash memory into our keyring.
restore_keys() {
    keys=$root/sys/kernel/config/crash_dm_crypt_keys
    [ -z "${restored:-}" ] || return 0
    [ -d "$keys" ] || try mount -t configfs configfs "$root/sys/kernel/config"
    [ -d "$keys" ] || { why="no key was handed over: this kernel can't"; return 1; }
    { echo 1 >"$keys/restore"; } 2>/dev/null || { why="no key was handed over"; return 1; }
    restored=yes
}

# ask_for UUID DEVICE: on every console, for as long as is configured. Who sits there types on one of them.
ask_for() {
    [ "$KDUMP_PASSPHRASE_TIMEOUT" -gt 0 ] || { why="no passphrase is asked for: passphrase_timeout is 0"; return 1; }
    clock
    give_up=$((now + KDUMP_PASSPHRASE_TIMEOUT)) why="no passphrase within $KDUMP_PASSPHRASE_TIMEOUT s"
    [ "$give_up" -le "$bound" ] || give_up=$bound
    say "passphrase for the volume $1 of the target $target_name, within $((give_up - now)) s:"
    while [ "$now" -lt "$give_up" ]; do
        read_passphrase || break
        limit=$bound
        try sacrifice cryptsetup open --disable-locks --key-file "$work/passphrase" "$2" "kdump-$1"
        status=$?
        rm -f "$work/passphrase"
        limit_to "$device_timeout"
        [ "$status" -ne 0 ] || return 0
        say "$why: again:"
        clock
    done
    locked=$1
    return 1
}

# A line from any console, without its end, into a file in memory.
read_passphrase() {
    readers=
    for console in $consoles "$root/dev/console"; do
        read_line "$console" &
        readers="$readers $!"
    done
    clock
    until [ -e "$work/passphrase" ] || [ "$now" -ge "$give_up" ]; do
        sleep 1
        clock
    done
    # shellcheck disable=SC2086 # one word each
    kill $readers
    for console in $consoles "$root/dev/console"; do
        stty echo <"$console"
    done
    [ -e "$work/passphrase" ]
} 2>/dev/null

read_line() {
    stty -echo <"$1"
    IFS= read -r line <"$1" && printf %s "$line" >"$work/passphrase.new" && mv "$work/passphrase.new" "$work/passphrase"
}
