# shellcheck shell=sh disable=SC2034,SC2154 # the parts share their names
# Part of kdump-save: what is saved of a crash: the log, the memory, our own log, and `meta`, which tells of them.

partial=                        # whether a part of the core was kept
in_a_row=1                      # crashes in a short time

# What the crashed kernel says of itself: the VMCOREINFO note, in the first pages. GNU sed takes NUL for a character,
# busybox for a line's end; both do here. The time is the note's last word.
identify() {
    release='' build_id='' crash_time=''
    dd if="$vmcore" bs=64k count=16 2>/dev/null | LC_ALL=C sed -n \
        -e 's/.*OSRELEASE=/release /p' -e 's/^BUILD-ID=/build_id /p' -e '/^CRASHTIME=/{s//crash_time /p;q;}' >"$work/note"
    while read -r key value; do
        case $key:$value in
        *:*[!A-Za-z0-9._+-]*) continue ;;
        release:?*) release=${release:-$value} ;;
        build_id:?*) build_id=${build_id:-$value} ;;
        crash_time:?*) crash_time=$value ;;
        esac
    done <"$work/note"
    case $crash_time in '' | *[!0-9]*) crash_time=$(date +%s) ;; esac
    stamp=$(date -u -d "@$crash_time" +%Y-%m-%dT%H-%M-%SZ) || stamp=$crash_time
    dump_name=$stamp-${release:-unknown}
    secret=no
    [ -z "$KDUMP_ENCRYPT_TO" ] || secret=yes
}

# write_meta RESULT: whole or not at all, and the log with it.
write_meta() {
    read -r cmdline <"$root/proc/cmdline"
    read -r capture_release <"$root/proc/sys/kernel/osrelease"
    read -r least <"$work/least"
    verdict=$1
    limit_to 30
    try store_meta
}

store_meta() {
    {
        printf '%s\n' format=1 "release=$release" "build_id=$build_id" "crash_time=$crash_time" \
            "saved_time=$(date +%s)" "capture_release=$capture_release" "cmdline=$cmdline" "target=$device $path" \
            "target_name=$target_name" "flavour=$KDUMP_FLAVOUR" "level=$KDUMP_LEVEL" \
            "makedumpfile=${KDUMP_MAKEDUMPFILE-}" "encrypted=$secret" "in_a_row=$in_a_row" &&
            printf '%s' "$steps$own_steps" &&
            printf '%s\n' "min_available_kib=$least" "result=$verdict"
    } >"$dump/meta.new" && sync "$dump/meta.new" && mv "$dump/meta.new" "$dump/meta" || return
    copy "$log" "$dump/save.log" && sync "$dump/save.log" "$dump"
}

copy() {
    cat "$1" >"$2"
}

# What was said since `meta` was written.
keep_log() {
    closing
    bounded copy "$log" "$dump/save.log" && bounded sync "$dump/save.log"
} 2>/dev/null

# size_of FILE: into `bytes`.
size_of() {
    bytes=0
    bounded stat -c %s "$1" >"$work/size" 2>/dev/null && read -r bytes <"$work/size"
}

# discard FILE: for which there is always time.
discard() {
    clock
    limit=$((now + 20))
    bounded rm -f "$1"
}

# settle FILE NAME: it onto the disk, then its name.
settle() {
    size_of "$1"
    [ "$bytes" -gt 0 ] || { why="${1##*/} is empty"; return 1; }
    try sync "$1" && try mv "$1" "$dump/$2" && try sync "$dump"
}

# makedump FILE ARGUMENT…: makedumpfile, watched; to FILE, encrypted if so configured.
makedump() {
    output=$1
    shift
    : >"$progress"
    : >"$work/messages"
    stall=$KDUMP_STEP_TIMEOUT limit=$bound
    clock
    [ "$now" -lt "$limit" ] || { stall=0 why="no time is left for it"; return 124; }
    if [ "$secret" = yes ]; then
        encrypted_dump "$output" "$@"
    else
        await attend clear_dump "$output" "$@"
    fi
    code=$?
    while read -r line; do
        case $line in '' | 'The dumpfile is saved to'* | 'makedumpfile Completed.') continue ;; esac
        say "makedumpfile: $line"
    done <"$work/messages"
    limit_to "$KDUMP_STEP_TIMEOUT"
    [ "$code" -eq 0 ] || [ -n "$why" ] || complaint makedumpfile "$code" "$progress"
    return "$code"
}

clear_dump() {
    output=$1
    shift
    sacrifice makedumpfile "$@" "$vmcore" "$output" >"$work/messages" 2>"$progress"
}

# encrypted_dump FILE ARGUMENT…: by a named pipe, so that the end of both is seen.
encrypted_dump() {
    rm -f "$work/pipe"
    mkfifo "$work/pipe" || { why="no pipe can be made"; return 1; }
    await pipe_dump "$@"
    status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || [ ! -s "$work/age" ] || complaint age "$status" "$work/age"
    return "$status"
}

# age first: it writes to the disk.
pipe_dump() {
    file=$1
    shift
    encrypt "$work/pipe" "$file" &
    reader=$!
    sacrifice makedumpfile -F "$@" "$vmcore" >"$work/pipe" 2>"$progress" &
    tend "$reader" $!
}

# encrypt FROM TO: for all recipients. Runs in the background.
encrypt() {
    from=$1 to=$2
    set -- age
    for recipient in $KDUMP_ENCRYPT_TO; do
        set -- "$@" -r "$recipient"
    done
    sacrifice "$@" <"$from" >"$to" 2>"$work/age"
}

# seal FILE NAME: a file in memory onto the target, under its name; encrypted if so configured, else as it is.
seal() {
    if [ "$secret" = yes ]; then
        : >"$work/age"
        bounded encrypt "$1" "$dump/$2.age" || {
            complaint age "$code" "$work/age"
            discard "$dump/$2.age"
            return 1
        }
        size_of "$dump/$2.age"
        try sync "$dump/$2.age" "$dump"
    else
        try copy "$1" "$dump/$2" && size_of "$dump/$2" && try sync "$dump/$2" "$dump"
    fi
}

# Encrypted, it goes by memory: not a word of it may lie on the disk in clear.
save_dmesg() {
    file=$dump/dmesg.txt
    [ "$secret" = no ] || file=$work/dmesg.txt
    bounded sacrifice makedumpfile --dump-dmesg "$vmcore" "$file" >"$work/words" 2>&1 || {
        status=$?
        complaint makedumpfile "$status" "$work/words"
        discard "$file"
        return "$status"
    }
    size_of "$file"
    [ "$bytes" -gt 0 ] || { why="dmesg.txt is empty"; discard "$file"; return 1; }
    if [ "$secret" = yes ]; then
        seal "$file" dmesg.txt
        status=$?
        rm -f "$file"
        return "$status"
    fi
    try sync "$file" "$dump"
}

# The capture kernel's own log: what there is to know when something went wrong.
save_own_log() {
    bounded dmesg >"$work/own" 2>/dev/null
    [ -s "$work/own" ] || { why="there is none"; return 1; }
    seal "$work/own" capture-dmesg.txt
    status=$?
    rm -f "$work/own"
    return "$status"
}

# save_vmcore: the ladder. As configured, with the other compression, and unfiltered if that fits with room to spare.
save_vmcore() {
    partial='' suffixed=vmcore
    [ "$secret" = no ] || suffixed=vmcore.age
    case $KDUMP_COMPRESS in -c) other=-z ;; *) other=-c ;; esac
    for rung in "$KDUMP_COMPRESS -d $KDUMP_LEVEL" "$other -d $KDUMP_LEVEL" "-z -d 0" copy; do
        case $rung in '-z -d 0' | copy) fits_unfiltered || break ;; esac
        limit_to "$KDUMP_STEP_TIMEOUT"
        discard "$dump/vmcore.incomplete"
        dump_once "$rung" && return
        rung_status=$?
        case $why in *[Nn]o\ space* | *ENOSPC*) break ;; esac
        clock
        [ "$now" -lt "$bound" ] || break
        say "vmcore by $rung did not do: $why"
    done
    case $why in *[Nn]o\ space* | *ENOSPC*) once_more "$rung" && return ;; esac
    reason=$why
    keep_partial
    why=$reason
    return "$rung_status"
}

# dump_once OPTIONS: to the end: on the disk and under its name.
dump_once() {
    why=''
    case $1 in
    copy) copy_core "$dump/vmcore.incomplete" ;;
    *)
        # shellcheck disable=SC2086 # several, or none
        makedump "$dump/vmcore.incomplete" $1
        ;;
    esac && settle "$dump/vmcore.incomplete" "$suffixed"
}

# copy_core FILE: as the kernel shows it, when makedumpfile can do nothing with it.
copy_core() {
    : >"$progress"
    stall=$KDUMP_STEP_TIMEOUT limit=$bound
    if [ "$secret" = yes ]; then
        : >"$work/age"
        bounded encrypt "$vmcore" "$1" || { complaint age $? "$work/age"; return 1; }
    else
        try copy "$vmcore" "$1"
    fi
}

# once_more OPTIONS: the disk filled up. By the rules there may be more to remove, now that we know what it takes.
once_more() {
    reason=$why
    size_of "$dump/vmcore.incomplete"
    say "the disk is full after $((bytes / 1024)) KiB: $why"
    make_room "$base$path" $((bytes / 512)) "${dump##*/}" || { why=$reason; return 1; }
    discard "$dump/vmcore.incomplete"
    dump_once "$1"
}

# Without filtering it may be as large as the memory was.
fits_unfiltered() {
    size_of "$vmcore"
    free_space && [ "$free" -ge $((bytes / 1024 + least_free)) ] && return
    say "unfiltered it could take $((bytes / 1048576)) MiB, which is more than there is"
    return 1
}

# KiB, into `free`, and what has to stay free, into `least_free`.
free_space() {
    limit_to 30
    try survey "$base$path" "${dump##*/}" && read -r total free <"$work/space" || return
    kib_of "$keep_free" "$total"
    least_free=$kib
}

# What is there of a core is kept if it can be read and doesn't fill the disk; encrypted, nobody can tell.
keep_partial() {
    closing
    size_of "$dump/vmcore.incomplete"
    if [ "$bytes" -gt 0 ] && [ "$secret" = no ] && free_space && [ "$free" -ge "$least_free" ] &&
        bounded makedumpfile --dump-dmesg "$dump/vmcore.incomplete" "$work/partial" >/dev/null 2>&1 &&
        [ -s "$work/partial" ] && settle "$dump/vmcore.incomplete" vmcore.partial; then
        partial=yes
        say "a part of it is kept: vmcore.partial, $((bytes / 1024)) KiB"
    else
        closing
        discard "$dump/vmcore.incomplete"
    fi
    rm -f "$work/partial"
}
