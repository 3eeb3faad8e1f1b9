"""A consumer of exits through pyroute2. See consumers.py. Usage: pyroute2_exits.py CPUS STORM

To its favour: its socket gets the queue that the others have. With its own, of 2 MiB, it falls
behind, and stops at the first ENOBUFS. It does not tell what was lost, and of a struct of version
16 it does not read the members from ac_tgid on, so that the storm's threads are told by their name
and parent, which is this process's too.
"""

import os
import resource
import signal
import socket
import sys

from pyroute2 import TaskStats

SO_RCVBUFFORCE = 33
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5


class Ended(Exception):
    """SIGTERM, which comes when nothing is left to read."""


def cpu_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def end(*_: object) -> None:
    raise Ended


def main() -> None:
    cpus, storm = map(int, sys.argv[1:])
    parent = os.getppid()
    seen = 0
    signal.signal(signal.SIGTERM, end)
    stats = TaskStats()
    stats.bind()
    stats.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    stats.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
    stats.register_mask(f"0-{cpus - 1}")
    # One exit, so that whatever is made at first use is made.
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    tuple(stats.get())
    before = cpu_time()
    print("ready", flush=True)
    try:
        while True:
            for message in stats.get():
                record = message.get_attr("TASKSTATS_TYPE_AGGR_PID").get_attr(
                    "TASKSTATS_TYPE_STATS"
                )
                seen += (
                    record["ac_ppid"] == parent
                    and record["ac_pid"] != storm
                    and record["ac_comm"].startswith(b"storm\0")
                )
    except Ended:
        print(seen, round((cpu_time() - before) * 1e9), flush=True)
        os._exit(0)  # its own end complains of the loop that was left


main()
