"""Owns a run of our command line that reports its own CPU seconds, without its children's, and its peak RSS in KiB on fd 3."""

import atexit
import os
import resource
import sys

REPORT_FD = 3


def _report() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/status", "rb") as file:
        peak = next(line for line in file if line.startswith(b"VmHWM:")).split()[1].decode()
    # Not ru_maxrss: that survives execve(2), so it would be the peak of the benchmark that started us.
    os.write(REPORT_FD, f"{usage.ru_utime + usage.ru_stime:.6f} {peak}\n".encode())


if __name__ == "__main__":
    os.set_inheritable(REPORT_FD, False)
    atexit.register(_report)
    sys.argv[0] = "dtee-async"
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the tree around us, installed or not
    from dtee_async.cli.main import main

    main()
