#!/bin/sh
# pre-mount hook of dracut's init, sourced: udev runs, nothing is mounted yet.

if [ -e /proc/vmcore ]; then
    /kdump/save /kdump/env
    reboot -f
fi
