#!/bin/bash
# dracut module of the capture image, in the flavour that the capture file names. Called for by name alone: by
# `dracut --modules kdump-pkg`, and with `capture = system` by `--add`.
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
    case $(setting KDUMP_CAPTURE):$(setting KDUMP_FLAVOUR) in
        system:*) ;;
        *:udev) echo base udev-rules ;;
        *:systemd) echo systemd systemd-initrd systemd-modules-load systemd-udevd udev-rules ;;
    esac
}

installkernel() {
    local names
    read -ra names <<<"$(setting KDUMP_MODULES)"

    if [[ $(setting KDUMP_CAPTURE):$(setting KDUMP_FLAVOUR) == image:direct ]]; then
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

# The real thing, even where dracut's own module `busybox` came first.
program() {
    local place

    for place in "$initdir"/{usr/bin,usr/sbin,bin,sbin}/"$1"; do
        [[ $(readlink "$place") != *busybox ]] || rm -f "$place"
    done
    inst_multiple "$1" || refuse "the program can't be found: '$1'"
}

install_tools() {
    local name busybox applets=
    local -a programs tools
    read -ra programs <<<"$(setting KDUMP_BINARIES)"
    read -ra tools <<<"$(setting KDUMP_APPLETS)"

    for name in "${programs[@]}"; do
        program "$name"
    done
    # the kernel and udev call it, and busybox's can't unpack every module
    [[ $(setting KDUMP_FLAVOUR) == direct ]] || program modprobe
    # Argon2's threads end by pthread_exit(), which needs it and aborts without
    if [[ " ${programs[*]} " == *' cryptsetup '* ]]; then
        inst_libdir_file libgcc_s.so.1 || refuse "the library can't be found: 'libgcc_s.so.1'"
    fi
    busybox=$(type -P busybox) && applets=" $("$busybox" --list | tr '\n' ' ')"
    for name in "${tools[@]}"; do
        tool "$name"
    done
}

# kdump-save, its parts, and the user's own scripts at the places they have.
install_scripts() {
    local file
    local -a scripts
    read -ra scripts <<<"$(setting KDUMP_HOOKS)"

    inst_simple "$library/kdump-save"
    ln -sfn "$library/kdump-save" "$initdir/kdump/save"
    for file in "${KDUMP_LIBRARY:-$library/save}"/*.sh; do
        inst_simple "$file" "$library/save/${file##*/}" || refuse "the file can't be read: '$file'"
    done
    for file in "${scripts[@]}"; do
        inst "$file" || refuse "the script can't be read: '$file'"
        chmod 755 "$initdir$file"
    done
    inst_simple "$capture_env" /kdump/env
    chmod 600 "$initdir/kdump/env"
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
    mkdir -p "$limits"
    printf '[Unit]\nJobTimeoutSec=%s\n' "$(job_limit)" >"$limits/limit.conf"
}

# Its own limit, and time for the device units before it; a shell has none.
job_limit() {
    case $(setting KDUMP_FINAL_ACTION):$(setting KDUMP_FAILURE_ACTION) in
        *shell*) echo infinity ;;
        *) echo $(($(setting KDUMP_TIMEOUT) + 120)) ;;
    esac
}

# An image without what it must have would be worse than the last good one.
check_settings() {
    local name release
    local -a programs
    release=$(setting KDUMP_RELEASE)
    read -ra programs <<<"$(setting KDUMP_BINARIES)"

    [[ -r $capture_env ]] || refuse "the capture file is missing: '$capture_env': run 'kdump-pkg rebuild'"
    [[ $(setting KDUMP_FORMAT) == 2 ]] ||
        refuse "the capture file is of another version of kdump-pkg: run 'kdump-pkg rebuild'"
    [[ $release == "$kernel" ]] ||
        refuse "the capture file is for kernel '$release', not '$kernel': run 'kdump-pkg rebuild'"
    for name in "${programs[@]}"; do
        type -P "$name" >/dev/null || refuse "$name not found: install the package that has it"
    done
}

install() {
    check_settings
    # kdump-save.service on the real root saves the dump
    [[ $(setting KDUMP_CAPTURE) != system ]] || return 0

    mkdir -p "$initdir"/{dev,proc,sys,run,tmp,usr/bin,kdump}
    install_tools
    install_scripts
    case $(setting KDUMP_FLAVOUR) in
        direct) inst_simple "$library/kdump-init" /init ;;
        udev) install_hooks ;;
        systemd) install_unit ;;
        *) refuse "no such flavour: '$(setting KDUMP_FLAVOUR)'" ;;
    esac
}
