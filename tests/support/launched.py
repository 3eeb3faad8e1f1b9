"""Commands run by launcher.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = str(Path(__file__).with_name("launcher.py"))


def words(*command: str, user: str = "") -> list[str]:
    """What to run for the command to be run by it."""
    return [sys.executable, "-P", _PROGRAM, user, *command]


def run(*command: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The command's output, and "out" of the program after it; `cost` reads its stderr."""
    return subprocess.run(words(*command), capture_output=True, text=True, **settings)


def cost(stderr: str) -> dict[str, Any]:
    """What the program told in its last line."""
    told: dict[str, Any] = json.loads(stderr.splitlines()[-1])
    return told


def shell(script: str, *arguments: str) -> list[str]:
    """A shell's words for the script."""
    return ["bash", "-c", script, "bash", *arguments]
