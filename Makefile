# `make test` and `make demo` make their own machine; see CONTRIBUTING.md.
.PHONY: test test-fast demo lint
.DEFAULT_GOAL := test

PYTHON := .venv/bin/python
SHELL_SCRIPTS = kdump-pkg $(wildcard hooks/kdump* hooks/alpm/kdump-pkg hooks/dracut/*.sh install/*) tests/lab/provision .ci/run

test:
	tests/lab/provision
	$(PYTHON) -m pytest

test-fast:
	tests/lab/provision --venv
	$(PYTHON) -m pytest tests/unit tests/shell

demo:
	tests/lab/provision
	$(PYTHON) -m tests.lab.demo

lint:
	tests/lab/provision --venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	shellcheck $(SHELL_SCRIPTS)
