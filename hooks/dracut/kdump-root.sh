#!/bin/sh
# cmdline hook of dracut's init, sourced: it refuses to go on without a root file system, and a capture needs none.

# shellcheck disable=SC2034 # for dracut's init
if [ -e /proc/vmcore ]; then
    root=kdump
    rootok=1
fi
