"""Makes page and plots again: PYTHONPATH=benchmarks python -m report docs."""

import sys
from pathlib import Path

from report import make

make(Path(sys.argv[1]))
