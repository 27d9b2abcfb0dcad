#!/bin/sh
# dracut hook of the `udev` flavour, the last at `cmdline` (an earlier one sets root= anew): a capture needs no root.

# shellcheck disable=SC2034 # dracut reads it
[ ! -e /proc/vmcore ] || { root=kdump rootok=1; }
