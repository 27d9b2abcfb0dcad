# shellcheck shell=sh disable=SC2034,SC2154,SC2015,SC2317 # the parts share their names
# Part of kdump-save: words, steps, time limits, the watchdog.
#
# Nothing that may hang is waited for: it runs below a process of its own, which gives its word when it has ended, and the
# watchdog, which looks once a second, kills it when its time is over and gives his word instead. So what can't even be
# killed (a disk that doesn't answer) is left behind.

log=$work/save.log              # copied to the target whenever `meta` is written
steps=                          # lines for `meta`: those of the targets so far …
own_steps=                      # … and of this one
failures=                       # the first ones in words, for a trace
limit=0                         # when what runs now has to be done, by the clock
turn=0                          # of those that are waited for, the number
stall=0                         # seconds without progress after which it is taken for hung; 0: not looked at
progress=$work/progress         # what makedumpfile says of its own
name=start place=nowhere        # what is done, and where to, for who looks at the console

# Seconds since boot, into `now`: without a fork, and unmoved by whoever sets the clock.
clock() {
    read -r now _ <"$root/proc/uptime"
    now=${now%%.*}
}

# KiB, into `available`.
memory() {
    while read -r key available _; do
        [ "$key" = MemAvailable: ] && return
    done <"$root/proc/meminfo"
    available=0
}

# The consoles that standard output doesn't reach: all but the last, which is /dev/console. Nobody may stop us by Ctrl-S.
find_consoles() {
    consoles='' tty=''
    read -r active <"$root/sys/class/tty/console/active" || active=
    for tty in $active; do
        consoles="$consoles $root/dev/$tty"
        stty -ixon <"$root/dev/$tty"
    done
    consoles=${consoles%" $root/dev/$tty"}
} 2>/dev/null

tell() {
    printf 'kdump-save: %s\n' "$*"
    for console in $consoles; do
        printf 'kdump-save: %s\n' "$*" >"$console"
    done 2>/dev/null
}

say() {
    tell "$*"
    printf '%s\n' "$*" >>"$log"
}

# --- limits ---

# bound_by SECONDS: what follows may not take longer altogether; a little of the whole time is kept for the end.
bound_by() {
    clock
    bound=$((now + $1))
    [ "$bound" -le "$last_call" ] || bound=$last_call
}

# closing: there is always a moment for what comes last.
closing() {
    clock
    bound=$((now + 20)) limit=$((now + 20))
}

# limit_to SECONDS: for the next commands.
limit_to() {
    clock
    limit=$((now + $1))
    [ "$limit" -le "$bound" ] || limit=$bound
}

# await FUNCTION…: start it and wait for its word, or for the watchdog's, who gives his when he has killed what it runs.
# By a pipe: the shell of busybox 1.37 and later, once it has caught a signal, never comes back from `read`.
await() {
    turn=$((turn + 1)) said=''
    : >"$work/killed"
    "$@" &
    until [ "$said" = "$turn" ]; do
        read -r said code <&6
    done
    : >"$work/limit"
    [ ! -s "$work/killed" ] || code=124
    stall=0
    return "$code"
}

# tend PID…: give word when all of them have ended, until `limit`. The status is the first that is not 0.
tend() {
    printf '%s\n' "$limit $stall $turn $*" "$name" "$place" >"$work/limit"
    code=0
    for pid; do
        wait "$pid"
        ended=$?
        [ "$code" -ne 0 ] || code=$ended
    done
    echo "$turn $code" >&6
}

attend() {
    "$@" &
    tend $!
}

# bounded COMMAND…: also a function, which then can't set anything. The status is 124 for what had to be killed.
bounded() {
    clock
    [ "$now" -lt "$limit" ] || return 124
    await attend "$@"
}

# sacrifice COMMAND…: the first to be killed when memory runs out, so that we live to try less. Only in a subshell.
sacrifice() {
    { echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null
    exec "$@"
}

# try COMMAND…: run it quietly; when it fails, `why` gets its first words.
try() {
    bounded "$@" >"$work/words" 2>&1 && return
    failed=$?
    [ "$1" != sacrifice ] || shift
    complaint "$1" "$failed" "$work/words"
    return "$failed"
}

# complaint TOOL CODE FILE: into `why`. makedumpfile's progress may stand before its words on the same line.
complaint() {
    case $2 in
    124) why="$1 did not end in time" ;;
    129 | 1[3-9]?) why="$1 was killed by signal $(($2 - 128))" ;;
    *) why="$1 exited with $2" ;;
    esac
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line##*"$cr"}
        case $line in
        *' %] '*'eta: '*s*) line=${line##*' %] '} line=${line#*eta: *s} ;;
        *' %] '*) line=${line##*' %] '?} ;;
        esac
        line=${line#"${line%%[! ]*}"}
        case $line in '' | Killed | Terminated) continue ;; esac    # the shell's own words
        case $1 in
        *_* | copy | survey) why=$line ;;       # functions of ours: nobody knows their names
        *) why="$why: $line" ;;
        esac
        return
    done <"$3"
}

# step NAME FUNCTION: the function may set `why` (it failed) and `bytes`.
step() {
    name=$1
    say "step $name begin"
    why='' bytes=0
    limit_to "$KDUMP_STEP_TIMEOUT"
    began=$now
    "$2"
    code=$?
    clock
    seconds=$((now - began))
    own_steps="${own_steps}step_$name=exit=$code seconds=$seconds bytes=$bytes$nl"
    if [ "$code" -eq 0 ]; then
        say "step $name ok seconds=$seconds bytes=$bytes"
    else
        why=${why:-it did not say why}
        say "step $name failed exit=$code: $why"
        failures="${failures:+$failures; }$name: $why"
    fi
    return "$code"
}

# run_hooks WHEN ARGUMENT…: the user's own programs; they may do what they like but stop us.
run_hooks() {
    stage=$1
    shift
    for hook in "$root/etc/kdump-pkg/$stage.d"/*; do
        [ -f "$hook" ] && [ -x "$hook" ] || continue
        name=$stage/${hook##*/}
        say "hook $name begin"
        limit_to "$KDUMP_STEP_TIMEOUT"
        bounded "$hook" "$@" >"$work/words" 2>&1
        code=$?
        while IFS= read -r line || [ -n "$line" ]; do
            say "hook $name: $line"
        done <"$work/words"
        say "hook $name exit=$code"
    done
}

# --- the watchdog ---

start_watchdog() {
    find_consoles
    clock
    deadline=$((now + KDUMP_TIMEOUT))
    margin=$((KDUMP_TIMEOUT / 10))
    [ "$margin" -le 20 ] || margin=20
    last_call=$((deadline - margin)) bound=$((deadline - margin))
    memory
    least=$available
    echo "$least" >"$work/least"
    : >"$work/limit"
    rm -f "$work/word"
    mkfifo "$work/word"
    exec 6<>"$work/word"
    watchdog &
}

# The hardware's, if it runs, is kept from firing for as long as ours has not.
watchdog() {
    feed=
    if [ -n "$KDUMP_WATCHDOG" ]; then
        for file in "$root"/sys/class/watchdog/*/pretimeout; do
            [ ! -e "$file" ] || echo 0 >"$file"
        done 2>/dev/null
        feed=yes
        watch 4>"$root$KDUMP_WATCHDOG"
        feed=
        tell "$KDUMP_WATCHDOG can't be opened: if it runs, it will end this"
    fi
    watch
}

# Once a second: feed, look for the least memory, kill what is overdue, and every fifth time tell how far we are.
watch() {
    ticks=0 printer='' task=''
    clock
    while [ "$now" -lt "$deadline" ]; do
        sleep 1
        clock
        [ -z "$feed" ] || printf . >&4
        memory
        if [ "$available" -lt "$least" ]; then
            least=$available
            echo "$least" >"$work/least"
        fi
        until='' pids=''
        {
            read -r until patience whose pids
            IFS= read -r doing
            IFS= read -r place
        } <"$work/limit"
        case $until in
        hold) deadline=$((now + 60)) ;;
        release)
            [ -z "$feed" ] || printf V >&4
            exit
            ;;
        *[0-9]) [ -z "$pids" ] || look_at "$until" "$patience" ;;
        esac
    done
    tell "not done after $KDUMP_TIMEOUT s, rebooting" &
    restart
    exit
}

# look_at UNTIL PATIENCE: at what runs now.
look_at() {
    if [ "$pids" != "$task" ]; then
        task=$pids ticks=0 moved=$now phase='' percent='' eta='' total=0 written=0 since=$now
        [ "$2" -eq 0 ] || [ ! -r "$progress" ] || exec 5<"$progress"
    fi
    if [ "$2" -gt 0 ]; then
        read_progress
        count_bytes
    fi
    if [ "$now" -ge "$1" ] || { [ "$2" -gt 0 ] && [ $((now - moved)) -ge "$2" ]; }; then
        echo "$pids" >"$work/killed"
        # shellcheck disable=SC2086 # one word each
        kill -KILL $pids
        echo "$whose 124" >&6
        return
    fi 2>/dev/null
    ticks=$((ticks + 1))
    # A console that blocks must not block us, nor fill the memory with those who wait for it.
    if [ $((ticks % 5)) -eq 0 ] && ! kill -0 "${printer:-x}"; then
        rate
        report &
        printer=$!
    fi 2>/dev/null
}

# What makedumpfile said since the last time, such as `Copying data   : [ 45.3 %] /           eta: 5s`.
read_progress() {
    words=
    while IFS= read -r line || [ -n "$line" ]; do
        words=$line
    done <&5
    words=${words##*"$cr"}
    [ -n "$words" ] || return
    moved=$now
    case $words in
    *'['*%*) ;;
    *) return ;;
    esac
    phase=${words%%:*} percent=${words#*'['} eta=
    phase=${phase%"${phase##*[! ]}"} percent=${percent%%%*}
    percent=${percent# } percent=${percent% }
    case $words in *'eta: '*) eta=${words##*'eta: '} ;; esac
}

# By the kernel's count of the first process, which writes to the disk: nobody need ask a disk that may hang.
count_bytes() {
    while read -r key count; do
        [ "$key" = wchar: ] || continue
        [ "$count" = "$total" ] || total=$count moved=$now
        return
    done <"$root/proc/${pids%% *}/io"
} 2>/dev/null

rate() {
    speed=0
    [ "$now" -eq "$since" ] || speed=$(((total - written) / 1024 / (now - since)))
    written=$total since=$now
}

report() {
    if [ -z "$percent" ]; then
        tell "$doing: $ticks s so far; reboot in $((deadline - now)) s at the latest"
    else
        mib=$((written / 1048576)) tenth=$((speed % 1024 * 10 / 1024))
        tell "$doing: $phase $percent %, $mib MiB at $((speed / 1024)).$tenth MiB/s${eta:+, $eta left}, to $place;" \
            "reboot in $((deadline - now)) s at the latest"
    fi
}
