# Everyday commands. `make` lists them.

PYTHON ?= python3
VENV ?= .venv
CFLAGS ?= -O2 -g
WARNINGS = -std=gnu11 -Wall -Wextra -Wshadow -Wconversion

OBJECTS = $(patsubst csrc/%.c,build/lib/%.o,$(wildcard csrc/*.c))

.PHONY: help test conformance attribution-proof identity-proof wild-proof probe-proof ctest memcheck instructions instructions-renew fuzz fuzz-proof sanitize tsan coverage kernels lint lib dist ci clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: pyproject.toml setup.py build_ffi.py $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[dev]'
	@touch $@

test: $(VENV)/ready ## all tests; as root also those of the real kernel
	$(VENV)/bin/pytest

conformance: $(VENV)/ready ## its cases on the emulated kernel and on this one, and the page
	TASKSTATS_CONFORMANCE_RESULTS=docs/conformance $(VENV)/bin/pytest -q tests/conformance
	$(VENV)/bin/python docs/make_conformance.py

ROUNDS ?= 20

attribution-proof: $(VENV)/ready ## jobs on the real kernel against what is true, ROUNDS=20 times; as root
	@for round in $$(seq $(ROUNDS)); do \
	    TASKSTATS_ATTRIBUTION_STOP=2 TASKSTATS_ATTRIBUTION_PROCESSES=2000 $(VENV)/bin/pytest -q tests/kernel/test_attribution.py || exit; \
	done

identity-proof: $(VENV)/ready ## identities of 30,000 processes and more, while pids wrap; as root
	TASKSTATS_IDENTITIES=30000 $(VENV)/bin/pytest -q -s tests/kernel/test_probe_identity.py

wild-proof: $(VENV)/ready ## `taskstats run` of 200,000 processes that fork as fast as they can; as root
	TASKSTATS_WILD=200000 $(VENV)/bin/pytest -q -s tests/kernel/test_run_wild.py

probe-proof: $(VENV)/ready ## final CPU times against the usage of cgroups, under load; as root
	@PYTHONPATH=tests $(VENV)/bin/python -m proof || [ $$? = 77 ] # skipped: it prints why

# ---- the pure C files by themselves ----

# On another machine's processor: make ctest CC=s390x-linux-gnu-gcc \
#     RUN='qemu-s390x-static -L /usr/s390x-linux-gnu'
CTEST_BUILD ?= build/ctest
RUN ?=

PURE = layout netlink decode sequence peer btf offsets ring settle programs buffer tally kin jobs \
    doubts owners parentage
TESTED = $(patsubst tests/c/test_%.c,%,$(wildcard tests/c/test_*.c))
CHECKING = $(filter-out test_% threads.c,$(notdir $(wildcard tests/c/*.c)))
CTEST_OBJECTS = $(addprefix $(CTEST_BUILD)/,$(PURE:=.o) $(CHECKING:.c=.o))
CTEST_HEADERS = $(wildcard csrc/*.h tests/c/*.h) build/members.inc
CTEST_COMPILE = $(CC) $(WARNINGS) -D_GNU_SOURCE $(CFLAGS) -Icsrc -Itests/c -Ibuild

ctest: $(TESTED:%=$(CTEST_BUILD)/test_%) ## C tests of the pure C files; CC, CFLAGS, RUN as you like
	@for test in $^; do $(RUN) $$test tests/data/frames || exit; done

memcheck: ## the same in valgrind: each error fails, and each leak
	@$(MAKE) --no-print-directory ctest CTEST_BUILD=build/memcheck CFLAGS='-O1 -g' \
	    RUN='valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all \
	    --errors-for-leak-kinds=all'

INSTRUCTIONS = PYTHONPATH=benchmarks $(PYTHON) -m instructions

instructions: ## instructions a record, by callgrind: 1 % more or less than expected fails
	@$(INSTRUCTIONS)

instructions-renew: ## the table of what is expected, made anew
	@$(INSTRUCTIONS) --renew

build/members.inc: tests/c/members.awk tests/data/fields.tsv
	@mkdir -p $(@D)
	awk -f $^ >$@

# What it was compiled with: another compiler compiles all again.
$(CTEST_BUILD)/compiler: FORCE
	@mkdir -p $(@D)
	@echo '$(CTEST_COMPILE)' | cmp -s - $@ || echo '$(CTEST_COMPILE)' >$@

$(CTEST_BUILD)/%.o: csrc/%.c $(CTEST_HEADERS) $(CTEST_BUILD)/compiler
	$(CTEST_COMPILE) -c -o $@ $<

$(CTEST_BUILD)/%.o: tests/c/%.c $(CTEST_HEADERS) $(CTEST_BUILD)/compiler
	$(CTEST_COMPILE) -c -o $@ $<

$(CTEST_BUILD)/test_%: $(CTEST_BUILD)/test_%.o $(CTEST_OBJECTS)
	$(CC) $(CFLAGS) $(CTEST_LINK) -o $@ $^

# Memory that it can refuse.
$(CTEST_BUILD)/test_jobs: CTEST_LINK = -Wl,--wrap=calloc,--wrap=realloc
$(CTEST_BUILD)/test_parentage: CTEST_LINK = -Wl,--wrap=calloc,--wrap=realloc,--wrap=malloc

# What makes system calls, of which this test replaces those that matter.
$(CTEST_BUILD)/test_probe: $(addprefix $(CTEST_BUILD)/,probe.o bpf.o process.o memory.o)

.PRECIOUS: $(CTEST_BUILD)/%.o

# ---- the whole shim from many threads ----

TSAN_COMPILE = $(CC) $(WARNINGS) -D_GNU_SOURCE -O1 -g -fsanitize=thread -Icsrc -Itests/c

tsan: build/tsan/threads ## query, drain, count, stop and close from many threads, watched
	@for whom in peer kernel; do TSAN_OPTIONS=halt_on_error=1 $< $$whom || exit; done

build/tsan/threads: tests/c/threads.c tests/c/check.c tests/c/wire.c $(wildcard csrc/*.[ch] tests/c/*.h)
	@mkdir -p $(@D)
	$(TSAN_COMPILE) -o $@ $(filter %.c,$^)

# ---- fuzzing the pure files ----

SECONDS ?= 60
FUZZ_CC ?= clang
FUZZ_BUILD ?= build/fuzz
CSRC ?= csrc
HARNESSES = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_COMPILE = $(FUZZ_CC) -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all -DTS_MOST_HELD=12u -DTS_MOST_TAKEN=8u -DTS_MOST_ALIKE=4u \
    -DTS_MOST_ENDED=3u -DTS_MOST_PLACES=4u -DTS_KIN_AT_FIRST=4u -DTS_OWNERS_AT_FIRST=2u \
    -DTS_OWNERS_CHUNK=2 -DTS_FIRST_SWEEP=2u -I$(CSRC) -Itests/c -Ibuild
FUZZ_SOURCES = $(PURE:%=$(CSRC)/%.c) \
    $(addprefix tests/c/,check.c reference.c properties.c stream.c peers.c types.c made_btf.c \
    rings.c settling.c lineages.c parents.c)

# 0: another one each time.
SEED ?= 0

FUZZ_OPTIONS = -use_value_profile=1 -dict=tests/fuzz/datagram.dict -seed=$(SEED)

# A twelfth of the time for each, but for those that take more.
fuzz: $(HARNESSES:%=$(FUZZ_BUILD)/fuzz_%) build/seeds ## the pure C files under ASan and UBSan; SECONDS=60
	@for name in $(HARNESSES); do \
	    case $$name in datagram) part=3;; btf | settle | jobs | parentage) part=6;; *) part=12;; esac; \
	    mkdir -p build/corpus/$$name; \
	    $(FUZZ_BUILD)/fuzz_$$name -max_total_time=$$(($(SECONDS) / part)) -timeout=10 \
	        $(FUZZ_OPTIONS) -artifact_prefix=$(FUZZ_BUILD)/ \
	        build/corpus/$$name build/seeds/$$name >$(FUZZ_BUILD)/$$name.log 2>&1 || \
	        { cat $(FUZZ_BUILD)/$$name.log; exit 1; }; \
	    echo "$$name: $$(grep DONE $(FUZZ_BUILD)/$$name.log)"; \
	done

fuzz-proof: build/seeds build/members.inc ## that the fuzzer finds errors planted in each of them
	@$(PYTHON) tests/fuzz/proof.py $(FUZZ_CC) $(FUZZ_OPTIONS)

# The captured datagrams; and two in one, as no kernel sends them. For jobs long stories at
# random, the same each time: few short ones have a job, a loss and a record that comes late.
STORIES = import pathlib, random; random.seed(1); [pathlib.Path(f'$@/{name}/{i}').write_bytes( \
    random.randbytes(401)) for name in ('jobs', 'parentage') for i in range(200)]

build/seeds: $(wildcard tests/data/frames/*/*.bin)
	@rm -rf $@
	@mkdir -p $(HARNESSES:%=$@/%)
	@for frame in $^; do \
	    name=$$(echo $$frame | tr / .); \
	    cp $$frame $@/datagram/$$name; \
	    cat $$(dirname $$frame)/exit.bin $$frame >$@/datagram/two.$$name; \
	done
	@$(PYTHON) -c "$(STORIES)"

$(FUZZ_BUILD)/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_SOURCES) $(CTEST_HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -o $@ $< $(FUZZ_SOURCES)

# ---- the extension built otherwise: in a copy of the tree, with an environment of its own ----

# $(1): the copy's folder; $(2): build switches, see build_ffi.py
define COPY
@rm -rf build/$(1)/tree
@mkdir -p build/$(1)/tree
@tar -c --exclude-vcs --exclude=./build --exclude='./.*' --exclude='*.so' . | \
    tar -x -C build/$(1)/tree
@test -x build/$(1)/venv/bin/pip || $(PYTHON) -m venv build/$(1)/venv
cd build/$(1)/tree && $(2) ../venv/bin/pip install -q -e '.[test]'
endef

# Options in a library, since the runtime reads the environment from /proc, which some tests
# change. Memory from malloc, so that also what Python hands to C is watched. Python's own leaks
# are not ours. What the runtime writes pytest must not keep.
define ASAN_DEFAULTS
const char *__asan_default_options(void)
{ return "detect_leaks=0:verify_asan_link_order=0"; }
endef
export ASAN_DEFAULTS

# What runs nothing of the extension that others do not; test_launch.py also commands that would
# inherit the preload.
ABOVE_C = $(patsubst %,--ignore tests/unit/test_%.py,launch histories jobs_emulated jobs_histories plots)

sanitize: ## unit tests with the extension under ASan and UBSan
	$(call COPY,sanitize,CC=gcc TASKSTATS_SANITIZE=address$(comma)undefined)
	@echo "$$ASAN_DEFAULTS" | gcc -shared -fPIC -o build/sanitize/options.so -xc -
	cd build/sanitize/tree && PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1 \
	    LD_PRELOAD="$(CURDIR)/build/sanitize/options.so $$(gcc -print-file-name=libasan.so)" \
	    ../venv/bin/pytest -q --capture=sys $(ABOVE_C) tests/unit

comma = ,

# What pip builds it deletes, the notes for gcov too: so it is built again in place.
COVERED = build/coverage/tree
GCOVR = $(VENV)/bin/gcovr --root $(COVERED) --txt-summary --txt - $(COVERED)

coverage: $(VENV)/ready ## C lines and branches that unit and C tests run: all of bpf, decode, layout, netlink, peer, ring, sequence
	$(call COPY,coverage,)
	@build/coverage/venv/bin/pip install -q 'setuptools>=77'
	cd $(COVERED) && TASKSTATS_COVERAGE=1 CC=gcc ../venv/bin/python setup.py -q build_ext --inplace
	cd $(COVERED) && ../venv/bin/pytest -q $(ABOVE_C) tests/unit
	@$(MAKE) -s -C $(COVERED) ctest CTEST_BUILD=build/ctest CC=gcc CFLAGS='-O0 --coverage'
	$(GCOVR) --filter $(COVERED)/csrc/ --txt-metric line --txt-metric branch
	$(GCOVR) --filter '$(COVERED)/csrc/(bpf|decode|layout|netlink|peer|ring|sequence)\.' --fail-under-line 100 --fail-under-branch 100

FORCE:

# ---- other kernels ----

kernels: $(VENV)/ready ## tests of the kernel on other kernels; KERNEL=NAME for one
	PYTHONPATH=tests $(VENV)/bin/python -m machines $(KERNEL)

# ---- the rest ----

lint: $(VENV)/ready ## formatting, lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch] \
	    benchmarks/*.c benchmarks/floors/*.[ch] benchmarks/instructions/*.c

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
