#!/bin/bash
# dracut module of the capture image, in the flavour that the capture file names. Only for `dracut --modules kdump-pkg`.
# shellcheck disable=SC2154 # dracut's own: initdir, kernel, moddir, srcmods, systemdsystemunitdir

library=/usr/lib/kdump-pkg
capture_env=${KDUMP_CAPTURE_ENV:-/var/lib/kdump-pkg/capture.env}

# setting NAME: one value of the capture file.
setting() {
    # shellcheck source=/dev/null
    (. "$capture_env" 2>/dev/null && printf '%s' "${!1}")
}

# Fatal, for an image without it would take the place of the last good one.
refuse() {
    dfatal "kdump-pkg: $1"
    exit 1
}

# Never by itself into an image to start the system with.
check() {
    return 255
}

depends() {
    case $(setting KDUMP_FLAVOUR) in
        udev) echo base udev-rules ;;
        systemd) echo systemd systemd-initrd systemd-modules-load systemd-udevd udev-rules ;;
    esac
}

installkernel() {
    local names
    read -ra names <<<"$(setting KDUMP_MODULES)"

    if [[ $(setting KDUMP_FLAVOUR) == direct ]]; then
        unpack_modules
    else
        hostonly='' instmods "${names[@]%\?}"
    fi
}

# insmod of busybox does not unpack, and there is no modprobe: these modules, in this order.
unpack_modules() {
    local file files dest
    local top=/usr/lib/modules/$kernel
    read -ra files <<<"$(setting KDUMP_INSMOD)"

    mkdir -p "$initdir/kdump"
    for file in "${files[@]}"; do
        dest=$top/${file%.ko*}.ko
        mkdir -p "$initdir${dest%/*}"
        unpacked "$srcmods/$file" >"$initdir$dest" || refuse "the module can't be read: '$srcmods/$file'"
        printf '%s\n' "$dest"
    done >"$initdir/kdump/insmod"
}

unpacked() {
    case $1 in
        *.zst) zstd -qdc "$1" ;;
        *.xz) xz -dc "$1" ;;
        *.gz) gzip -dc "$1" ;;
        *) cat "$1" ;;
    esac
}

# A tool that nobody brought yet: as an applet where busybox has it, else the system's own.
tool() {
    local place

    for place in "$initdir"/{usr/bin,usr/sbin,bin,sbin}/"$1"; do
        [[ -e $place || -L $place ]] && return
    done
    if [[ $applets == *" $1 "* ]]; then
        inst_simple "$busybox" /usr/bin/busybox
        ln -sfn busybox "$initdir/usr/bin/$1"
    else
        inst_multiple "$1" || refuse "the tool can't be found: '$1'"
    fi
}

install_tools() {
    local name busybox applets=

    busybox=$(type -P busybox) && applets=" $("$busybox" --list | tr '\n' ' ')"
    # busybox's findfs knows no partitions' names
    grep -q "_DEVICE='PART" "$capture_env" && inst_multiple findfs
    for name in sh date dd findfs halt mkdir mount mv poweroff reboot rm sed sleep stat sync umount "$@"; do
        tool "$name"
    done
    inst_multiple makedumpfile
}

install_hooks() {
    inst_hook cmdline 99 "$moddir/kdump-root.sh"
    inst_hook initqueue/settled 00 "$moddir/kdump.sh"
    inst_hook pre-mount 00 "$moddir/kdump.sh"
    # instead of a shell that waits for ever
    mkdir -p "$initdir/etc/cmdline.d"
    echo 'rd.shell=0 rd.emergency=reboot' >"$initdir/etc/cmdline.d/kdump-pkg.conf"
}

# A failed boot wants the capture too: it ends in a reboot, while an emergency shell would wait for a password for ever.
install_unit() {
    local target units=$initdir$systemdsystemunitdir limits=$initdir/etc/systemd/system/kdump-capture.service.d

    inst_simple "$systemdsystemunitdir/kdump-capture.service"
    for target in initrd emergency rescue; do
        mkdir -p "$units/$target.target.wants"
        ln -sfn ../kdump-capture.service "$units/$target.target.wants/kdump-capture.service"
    done
    # by it systemd knows where it is; dracut 059 has it only in `base`
    mkdir -p "$initdir/etc"
    [[ -e $initdir/etc/initrd-release ]] || echo ID=kdump-pkg >"$initdir/etc/initrd-release"
    # its own limit, and time for the device units before it
    mkdir -p "$limits"
    printf '[Unit]\nJobTimeoutSec=%d\n' $(($(setting KDUMP_TIMEOUT) + 120)) >"$limits/limit.conf"
}

install() {
    local release flavour
    release=$(setting KDUMP_RELEASE)
    flavour=$(setting KDUMP_FLAVOUR)

    [[ -r $capture_env ]] || refuse "the capture file is missing: '$capture_env': run 'kdump-pkg rebuild'"
    [[ $release == "$kernel" ]] ||
        refuse "the capture file is for kernel '$release', not '$kernel': run 'kdump-pkg rebuild'"
    type -P makedumpfile >/dev/null || refuse "makedumpfile not found: install the package 'makedumpfile'"

    mkdir -p "$initdir"/{dev,proc,sys,run,tmp,usr/bin,kdump}
    inst_simple "$library/kdump-save"
    ln -sfn "$library/kdump-save" "$initdir/kdump/save"
    inst_simple "$capture_env" /kdump/env
    case $flavour in
        direct)
            install_tools insmod
            inst_simple "$library/kdump-init" /init
            ;;
        udev)
            install_tools
            install_hooks
            ;;
        systemd)
            install_tools
            install_unit
            ;;
        *) refuse "no such flavour: '$flavour'" ;;
    esac
}
