# Everyday commands. `make` lists them.

PYTHON ?= python3
VENV ?= .venv
CFLAGS ?= -O2 -g
WARNINGS = -std=gnu11 -Wall -Wextra -Wshadow -Wconversion

OBJECTS = $(patsubst csrc/%.c,build/lib/%.o,$(wildcard csrc/*.c))

.PHONY: help test lint lib dist ci clean

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/ready: pyproject.toml setup.py build_ffi.py $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[dev]'
	@touch $@

test: $(VENV)/ready ## all tests; as root also those of the real kernel
	$(VENV)/bin/pytest

lint: $(VENV)/ready ## formatting, lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*.[ch]

lib: build/libtaskstats.a ## the shim alone, a static library

build/libtaskstats.a: $(OBJECTS)
	$(AR) rcs $@ $^

build/lib/%.o: csrc/%.c $(wildcard csrc/*.h)
	@mkdir -p $(@D)
	$(CC) $(WARNINGS) -D_GNU_SOURCE $(CFLAGS) -c -o $@ $<

dist: $(VENV)/ready ## sdist and wheel, in dist/
	$(VENV)/bin/python -m build

ci: ## what CI runs
	bash .ci/run

clean: ## what the build left
	rm -rf build dist *.egg-info taskstats/*.so $(VENV)/ready
