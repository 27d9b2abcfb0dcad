#!/bin/sh
# merge_config.sh -m -O DIRECTORY CONFIG…: DIRECTORY/.config, in which the last one to name an option wins.
[ "$1 $2" = '-m -O' ] || exit 2
to=$3
shift 3
awk '
    { name = $0; sub(/^# /, "", name); sub(/[= ].*/, "", name) }
    name ~ /^CONFIG_/ { if (!(name in line)) order[n++] = name; line[name] = $0 }
    END { for (i = 0; i < n; i++) print line[order[i]] }
' "$@" >"$to/.config"
