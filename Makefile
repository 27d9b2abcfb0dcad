# `make test` and `make demo` make their own machine; see CONTRIBUTING.md.
.PHONY: test test-fast demo bench matrix least versus crashes variant lint
.DEFAULT_GOAL := test

PYTHON := .venv/bin/python
SHELL_SCRIPTS = kdump-pkg $(wildcard hooks/kdump* hooks/notify hooks/alpm/kdump-pkg hooks/dracut/*.sh hooks/save/*.sh install/*) \
    $(wildcard linux-kdump/configure linux-kdump/debug/configure linux-kdump/settings linux-kdump/*.sh) tests/lab/provision .ci/run

test:
	tests/lab/provision
	$(PYTHON) -m pytest -n 2 tests/unit tests/shell
	$(PYTHON) -m pytest -n 2 --dist worksteal tests/upload tests/pacman tests/vm

test-fast:
	tests/lab/provision --venv
	$(PYTHON) -m pytest tests/unit tests/shell

demo:
	tests/lab/provision
	$(PYTHON) -m tests.lab.demo

# Figures, nothing asserted: sizes and times; a quarter of an hour.
bench:
	tests/lab/provision
	$(PYTHON) -m tests.lab.bench

# Every storage stack by every generator and flavour, and with linux-kdump by every kind of disk, a crash each: three
# hours, and an hour once for three kernels.
MATRIX := build/matrix.md
matrix:
	tests/lab/provision
	$(PYTHON) -m tests.lab.matrix --output $(MATRIX)

# The smallest reservation that captures, by stack, kernel, generator and flavour, beside the estimate: an hour or two.
LEAST := build/least.md
least:
	tests/lab/provision
	$(PYTHON) -m tests.lab.least --output $(LEAST)

# The stock kernel and linux-kdump side by side: sizes, reservation, time; a quarter of an hour where both are built.
VERSUS := build/versus.md
versus:
	tests/lab/provision
	$(PYTHON) -m tests.lab.versus --output $(VERSUS)

# Real kernels, crashed in every way there is; their logs, as tests/reports keeps them: half an hour.
CRASHES := build/crashes
crashes:
	tests/lab/provision
	$(PYTHON) -m tests.lab.crashes --output $(CRASHES)

# linux-kdump through kernel upgrades and bad input: with the real source, and on a machine with systemd: two hours.
VARIANT := build/variant.md
variant:
	tests/lab/provision
	$(PYTHON) -m tests.lab.upgrade --output $(VARIANT)

lint:
	tests/lab/provision --venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	shellcheck $(SHELL_SCRIPTS)
