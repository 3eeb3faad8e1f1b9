"""A program that runs a command by `taskstats.launch`: USER COMMAND...; no USER is ""."""

import contextlib
import dataclasses
import json
import pwd
import sys
import threading

from taskstats import launch

user = pwd.getpwnam(sys.argv[1]) if sys.argv[1] else None
with launch.Command(sys.argv[2:], user) as command:
    threading.Thread(target=threading.Event().wait, daemon=True).start()  # as a listener
    try:
        ended = command.wait()
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(launch.exit_status(error))
    print(json.dumps(dataclasses.asdict(ended)), file=sys.stderr)
with contextlib.suppress(BrokenPipeError):
    print("out", end=" ")
launch.die_like(ended.status)
