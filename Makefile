# `make test` and `make demo` make their own machine; see CONTRIBUTING.md.
.PHONY: test test-fast demo bench matrix least crashes lint
.DEFAULT_GOAL := test

PYTHON := .venv/bin/python
SHELL_SCRIPTS = kdump-pkg $(wildcard hooks/kdump* hooks/notify hooks/alpm/kdump-pkg hooks/dracut/*.sh hooks/save/*.sh install/*) tests/lab/provision .ci/run

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

# Every storage stack by every generator and flavour, a crash each: two hours, and ten minutes once for a kernel.
MATRIX := build/matrix.md
matrix:
	tests/lab/provision
	$(PYTHON) -m tests.lab.matrix --output $(MATRIX)

# The smallest reservation that captures, by stack, kernel, generator and flavour, beside the estimate: an hour or two.
LEAST := build/least.md
least:
	tests/lab/provision
	$(PYTHON) -m tests.lab.least --output $(LEAST)

# Real kernels, crashed in every way there is; their logs, as tests/reports keeps them: half an hour.
CRASHES := build/crashes
crashes:
	tests/lab/provision
	$(PYTHON) -m tests.lab.crashes --output $(CRASHES)

lint:
	tests/lab/provision --venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	shellcheck $(SHELL_SCRIPTS)
