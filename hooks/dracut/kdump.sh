#!/bin/sh
# dracut hook of the `udev` flavour, once udev has started and before any root is mounted.

# By exec, from PID 1: if it can't run or ever ended, the kernel panics, and its panic= reboots.
[ ! -e /proc/vmcore ] || exec /kdump/save /kdump/env
