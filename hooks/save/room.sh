# shellcheck shell=sh disable=SC2034,SC2154,SC2015 # the parts share their names; A && B || leave
# Part of kdump-save: which old dumps have to go so that a new one has room. plan/retention.py keeps to the same rules.
#
# Ours is a real directory with a name that we give, holding a regular file `meta` that begins with `format=1`; whatever
# else lies there is never touched. What reads or changes the disk runs bounded, so in a process of its own.

# is_name NAME: of a dump? Only characters that no shell and no file system minds.
is_name() {
    case $1 in
    *[!A-Za-z0-9._+-]*) return 1 ;;
    [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]-[0-9][0-9]-[0-9][0-9]Z-?*) ;;
    *) return 1 ;;
    esac
}

is_ours() {
    is_name "$1" && [ -d "$1" ] && [ ! -L "$1" ] && [ -f "$1/meta" ] && [ ! -L "$1/meta" ] || return
    read -r line <"$1/meta" && [ "$line" = format=1 ]
}

is_pinned() {
    [ -e "$1/pinned" ] || [ -L "$1/pinned" ]
}

# is_part FILE: one of those that a dump is made of, or that kdump-pkg adds later.
is_part() {
    [ -f "$1" ] && [ ! -L "$1" ] || return
    part=${1##*/}
    case ${part%.age} in
    meta | meta.new | save.log | dmesg.txt | capture-dmesg.txt | vmcore | vmcore.incomplete | vmcore.partial | \
        vmcore.flat | report.* | .kdump-pkg-*) ;;
    *) return 1 ;;
    esac
}

# survey DIRECTORY CURRENT: into $work/space the KiB of the file system and those free, into $work/dumps a line for each
# dump but CURRENT, by name, so by time: NAME KIB COMPLETE PINNED IN_A_ROW.
survey() {
    : >"$work/dumps"
    cd "$1" || return
    current=$2
    stat -f -c '%S %b %a' . >"$work/statfs" || return
    read -r unit total free <"$work/statfs"
    echo "$((total * (unit / 512) / 2)) $((free * (unit / 512) / 2))" >"$work/space"
    for entry in [0-9]*; do
        [ "$entry" != "$current" ] && is_ours "$entry" || continue
        complete=0 pinned=0 row=1
        read_meta "$entry/meta"
        ! is_pinned "$entry" || pinned=1
        measure "$entry"
        echo "$entry $kib $complete $pinned $row"
    done >>"$work/dumps"
}

# measure NAME: what of it is ours, in KiB, into `kib`.
measure() {
    kib=0
    set -- "$1" "$1"/* "$1"/.kdump-pkg-*
    for file; do
        shift
        ! { [ "$file" = "$entry" ] || is_part "$file"; } || set -- "$@" "$file"
    done
    stat -c %b "$@" >"$work/blocks" 2>/dev/null
    while read -r blocks; do
        kib=$((kib + blocks / 2))
    done <"$work/blocks"
}

read_meta() {
    while IFS='=' read -r key value; do
        case $key=$value in
        result=complete) complete=1 ;;
        result=*) complete=0 ;;
        in_a_row=*[!0-9]* | in_a_row=) ;;
        in_a_row=*) row=$value ;;
        esac
    done <"$1"
}

# seconds_of NAME: since 1970, by its name, into `seconds`; empty for what is no time.
seconds_of() {
    seconds=
    y=${1%%-*} m=${1#*-} d=${1#*-*-}
    h=${d#*T} d=${d%%T*} m=${m%%-*}
    min=${h#*-} s=${h#*-*-} h=${h%%-*}
    min=${min%%-*} s=${s%%Z*}
    # an octal number else
    m=${m#0} d=${d#0} h=${h#0} min=${min#0} s=${s#0}
    while [ "${y#0}" != "$y" ]; do y=${y#0}; done
    y=${y:-0}
    month_days || return
    [ "$d" -ge 1 ] && [ "$d" -le "$most" ] && [ "$h" -le 23 ] && [ "$min" -le 59 ] && [ "$s" -le 59 ] || return
    # days since the first of March of the year 0
    [ "$m" -gt 2 ] || y=$((y - 1)) m=$((m + 12))
    days=$((y * 365 + y / 4 - y / 100 + y / 400 + (153 * (m - 3) + 2) / 5 + d - 719469))
    seconds=$((days * 86400 + h * 3600 + min * 60 + s))
}

# Of month m in year y, into `most`.
month_days() {
    [ "$y" -ge 1 ] || return
    case $m in
    4 | 6 | 9 | 11) most=30 ;;
    2)
        most=28
        [ $((y % 4)) -ne 0 ] || { [ $((y % 100)) -eq 0 ] && [ $((y % 400)) -ne 0 ]; } || most=29
        ;;
    [13578] | 1[02]) most=31 ;;
    *) return 1 ;;
    esac
}

# kib_of LIMIT TOTAL: KiB as a number, or `10%`, into `kib`.
kib_of() {
    case $1 in
    *%) kib=$(($2 * ${1%\%} / 100)) ;;
    *) kib=$1 ;;
    esac
}

# choose INCOMING NEED NOW: which dumps of $work/dumps have to go, into `doomed`; and into `largest` the KiB of the
# largest there is. Without NEED that is what the next one will want.
choose() {
    doomed='' count=$1 used=0 largest=0 newest='' newest_complete=''
    read -r total free <"$work/space" || total=0 free=0
    while read -r entry size complete _; do
        count=$((count + 1)) used=$((used + size)) newest=$entry
        [ "$complete" -eq 0 ] || newest_complete=$entry
        [ "$size" -le "$largest" ] || largest=$size
    done <"$work/dumps"
    need=${2:-$largest}
    used=$((used + need))
    kib_of "$max_use" "$total"
    most_used=$kib
    kib_of "$keep_free" "$total"
    least_free=$((kib + need))
    [ "$max_age" -eq 0 ] || pick too_old "$3"
    pick too_much
}

# pick RULE NOW: the incomplete ones first, then the others, each from the oldest on, as far as RULE asks for it.
pick() {
    for wanted in 0 1; do
        while read -r entry size complete pinned _; do
            [ "$complete" -eq "$wanted" ] && [ "$pinned" -eq 0 ] && [ "$entry" != "$newest" ] &&
                [ "$entry" != "$newest_complete" ] || continue
            case "$doomed " in *" $entry "*) continue ;; esac
            "$1" "$entry" "${2:-}" || continue
            doomed="$doomed $entry" count=$((count - 1)) used=$((used - size)) free=$((free + size))
        done <"$work/dumps"
    done
}

too_old() {
    seconds_of "$1"
    [ -n "$seconds" ] && [ $(($2 - seconds)) -gt $((max_age * 86400)) ]
}

too_much() {
    { [ "$keep" -gt 0 ] && [ "$count" -gt "$keep" ]; } || { [ "$most_used" -gt 0 ] && [ "$used" -gt "$most_used" ]; } ||
        [ "$free" -lt "$least_free" ]
}

# remove_dumps DIRECTORY NAME…: the core first, `meta` last, for without it nobody would know whose the rest is. What
# others put into it stays, and so does the directory then. At no instant does the rest look whole.
remove_dumps() {
    cd "$1" || return
    shift
    for entry; do
        is_ours "$entry" && ! is_pinned "$entry" || continue
        take_back "$entry"
        for file in "$entry"/vmcore* "$entry"/* "$entry"/.kdump-pkg-*; do
            [ "$file" = "$entry/meta" ] || ! is_part "$file" || rm -f "$file"
        done
        rm -f "$entry/meta"
        rmdir "$entry" 2>/dev/null || echo "not all of $entry is ours: what isn't stays"
    done
    sync
}

# take_back NAME: let its `meta` end before the result. On a full disk it stays as it is.
take_back() {
    while IFS= read -r line; do
        case $line in result=*) break ;; esac
        printf '%s\n' "$line" || return
    done <"$1/meta" >"$1/meta.new"
    if [ -s "$1/meta.new" ] && sync "$1/meta.new"; then mv -f "$1/meta.new" "$1/meta" && sync "$1"; fi
} 2>/dev/null

# make_room DIRECTORY [NEED [CURRENT]]: by the rules; false when nothing had to go or nothing could.
make_room() {
    doomed=
    limit_to "$KDUMP_STEP_TIMEOUT"
    try survey "$1" "${3:-}" || { say "the old dumps can't be looked at: $why"; return 1; }
    choose 1 "${2:-}" "$crash_time"
    [ -n "$doomed" ] || return
    say "room: removing$doomed"
    # shellcheck disable=SC2086 # names without blanks
    try remove_dumps "$1" $doomed || say "room: $why"
    while IFS= read -r line; do
        say "room: $line"
    done <"$work/words"
}

# The count of crashes of which each came within KDUMP_CRASH_LOOP minutes of the one before, into `in_a_row`; the fourth
# makes a loop. `meta` has the counts too, for the dumps themselves may have been pruned.
find_loop() {
    in_a_row=1 before=
    while read -r entry _ _ _ row; do
        seconds_of "$entry"
        [ -n "$seconds" ] && [ "$seconds" -le "$crash_time" ] || continue
        count_crash "$seconds"
        [ "$row" -le "$in_a_row" ] || in_a_row=$row
    done <"$work/dumps"
    count_crash "$crash_time"
    [ "$KDUMP_CRASH_LOOP" -gt 0 ] && [ "$in_a_row" -gt 3 ] || return 0
    loop="$in_a_row crashes in a row, each within $KDUMP_CRASH_LOOP minutes of the one before"
    say "$loop: only the log is saved"
}

count_crash() {
    if [ -n "$before" ] && [ $(($1 - before)) -le $((KDUMP_CRASH_LOOP * 60)) ]; then
        in_a_row=$((in_a_row + 1))
    else
        in_a_row=1
    fi
    before=$1
}
