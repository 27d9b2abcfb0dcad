"""The shell scripts, run for real under dash and busybox ash."""
