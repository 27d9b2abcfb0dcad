"""A vmlinux that crash and drgn open, made of what a stock kernel image carries: BTF and kallsyms. Pure.

`image.make` makes that of the kernel, `module.make` that of a module. No other project's format is read here but what
the kernel documents (Documentation/bpf/btf.rst, kernel/kallsyms.c, the DWARF 4 standard, elf(5)).
"""
