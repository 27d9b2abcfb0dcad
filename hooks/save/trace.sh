# shellcheck shell=sh disable=SC2034,SC2154 # the parts share their names
# Part of kdump-save: a line for the next boot when nothing could be saved anywhere. `kdump-pkg collect` looks for it.

variable=$root/sys/firmware/efi/efivars/KdumpPkgTrace-6b64756d-7070-4b47-8000-747261636531

# The first place that takes it.
leave_trace() {
    text=${failures:-no target is configured}
    trace="kdump-pkg 1 $crash_time ${release:-unknown} $(printf %.400s "$text" | sed 's/[^ -~]/?/g')"
    for place in "an EFI variable" pstore "the record"; do
        limit_to 10
        case $place in
        *EFI*) try trace_to_efi ;;
        pstore) try trace_to_pstore ;;
        *) trace_to_record ;;
        esac && {
            say "a trace is left in $place for the next boot"
            return
        }
    done
    say "no trace could be left: $trace"
}

# Attributes (kept, at boot and at run time), then the text, in one write, as the kernel wants it.
trace_to_efi() {
    [ -d "${variable%/*}" ] || return
    set -- "${variable%/*}"/*
    [ -e "$1" ] || mount -t efivarfs efivarfs "${variable%/*}"
    printf '\007\000\000\000%s\n' "$trace" >"$variable" && [ -s "$variable" ]
} 2>/dev/null

trace_to_pstore() {
    [ -e "$root/dev/pmsg0" ] && printf 'kdump-pkg-trace: %s\n' "$trace" >"$root/dev/pmsg0"
}

# A block of a file of ours, behind its first one, and only if that still has the mark.
trace_to_record() {
    # shellcheck disable=SC2086 # three words
    set -- $KDUMP_TRACE_RECORD
    [ $# -eq 3 ] && locate "$1" || return
    block=$(($2 / 512))
    bounded dd if="$node" of="$work/record" bs=512 skip="$block" count=1 2>/dev/null || return
    read -r line <"$work/record" && [ "$line" = "kdump-pkg record $3" ] || return
    printf '%s\n' "$trace" >"$work/record"
    bounded dd if="$work/record" of="$node" bs=512 seek=$((block + 1)) conv=notrunc,sync 2>/dev/null && bounded sync
}
