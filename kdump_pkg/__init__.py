"""kdump-pkg: what coredumpctl is for programs, for the kernel, on Arch Linux."""

__version__ = "0.1.0"
