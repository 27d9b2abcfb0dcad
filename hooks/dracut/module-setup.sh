#!/bin/bash
# dracut module of the capture image, in the flavours `direct` (this module alone), `udev` (dracut's own init) and
# `systemd`. The same script saves in all of them; see install/kdump for mkinitcpio's side.

# Never part of an ordinary image: only `--modules` or `--add` brings it in.
check() {
    return 255
}

depends() {
    kdump_settings || return 1
    case "$KDUMP_FLAVOUR" in
        udev) echo base udev-rules ;;
        systemd) echo systemd systemd-initrd udev-rules ;;
    esac
}

# The capture file, into variables; complains where it is no good for this kernel.
kdump_settings() {
    local env="${dracutsysrootdir-}/var/lib/kdump-pkg/capture.env"

    if ! [[ -r "$env" ]]; then
        derror "The capture file is missing: '$env': run 'kdump-pkg rebuild'"
        return 1
    fi
    # shellcheck source=/dev/null
    . "$env"
    # shellcheck disable=SC2154 # dracut's
    if [[ -n "${kernel-}" && "$KDUMP_RELEASE" != "$kernel" ]]; then
        derror "The capture file is for kernel '$KDUMP_RELEASE', not '$kernel': run 'kdump-pkg rebuild'"
        return 1
    fi
}

# A tool as an applet where busybox has it, else the system's own.
kdump_tools() {
    local tool busybox
    local -a applets=()

    for busybox in /usr/bin/busybox /usr/lib/initcpio/busybox ''; do
        [[ -x "${dracutsysrootdir-}$busybox" ]] && break
    done
    if [[ -n "$busybox" ]]; then
        mapfile -t applets < <("$busybox" --list)
        inst_binary "$busybox" /usr/bin/busybox
    fi
    for tool; do
        # shellcheck disable=SC2154 # dracut's
        [[ -e "$initdir/usr/bin/$tool" || -L "$initdir/usr/bin/$tool" ]] && continue
        # busybox's findfs knows no partitions' names
        if [[ " ${applets[*]} " == *" $tool "* ]] && ! [[ "$tool" == findfs && "$KDUMP_TARGET_1_DEVICE" == PART* ]]; then
            ln -s busybox "$initdir/usr/bin/$tool"
        else
            inst_binary "$(type -P "$tool")" "/usr/bin/$tool"
        fi
    done
}

install() {
    local library="/usr/lib/kdump-pkg"

    kdump_settings || return 1
    [[ "$KDUMP_FLAVOUR" == direct ]] && kdump_directories
    kdump_tools sh cat date dd findfs halt kill mkdir mount mv poweroff reboot rm sed sleep stat sync umount
    inst_binary /usr/bin/makedumpfile
    inst_simple "$library/kdump-save" /kdump/save
    inst_simple /var/lib/kdump-pkg/capture.env /kdump/env
    case "$KDUMP_FLAVOUR" in
        direct)
            kdump_tools insmod
            inst_simple "$library/kdump-init" /init
            ;;
        udev)
            # shellcheck disable=SC2154 # dracut's
            inst_hook cmdline 99 "$moddir/kdump-root.sh"
            inst_hook pre-mount 00 "$moddir/kdump.sh"
            ;;
        systemd)
            # shellcheck disable=SC2154 # dracut's
            inst_simple "$systemdsystemunitdir/kdump-capture.service"
            inst_simple "$library/kdump-save"
            mkdir -p "$initdir$systemdsystemunitdir/initrd.target.wants"
            ln -s ../kdump-capture.service "$initdir$systemdsystemunitdir/initrd.target.wants/"
            ;;
    esac
}

# What dracut's own `base` would have made.
kdump_directories() {
    mkdir -p "$initdir"/{dev,proc,sys,run,tmp,var,kdump}
    ln -sfn ../run "$initdir/var/run"
}

installkernel() {
    kdump_settings || return 1
    if [[ "$KDUMP_FLAVOUR" == direct ]]; then
        kdump_unpacked_modules
    else
        # shellcheck disable=SC2086 # a list
        hostonly='' instmods ${KDUMP_MODULES//\?/}
    fi
}

# No kmod in the image, so what insmod gets is unpacked, in the order that facts named.
kdump_unpacked_modules() {
    local file target
    local -a insmod=()

    mkdir -p "$initdir/kdump"
    read -ra insmod <<<"$KDUMP_INSMOD"
    for file in "${insmod[@]}"; do
        target="/usr/lib/modules/$kernel/${file%.ko*}.ko"
        mkdir -p "$initdir${target%/*}"
        # shellcheck disable=SC2154 # dracut's
        case "$file" in
            *.zst) zstd -dqc "$srcmods/$file" ;;
            *.xz) xz -dc "$srcmods/$file" ;;
            *.gz) gzip -dc "$srcmods/$file" ;;
            *) cat "$srcmods/$file" ;;
        esac >"$initdir$target" || return 1
        echo "$target"
    done >"$initdir/kdump/insmod"
}
