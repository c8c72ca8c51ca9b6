"""The example program of the tee(2) manual page: copy stdin, a pipe, to stdout and to a file. Try `date | python3 tee.py FILE | cat`."""

import asyncio
import os
import sys

from dtee_async.zerocopy import duplicate

with open(sys.argv[1], "wb") as file:
    result = asyncio.run(duplicate(sys.stdin, sys.stdout, file, enlarge=True))
for sink in result.sinks:
    if sink.error:
        sys.exit(f"tee.py: {os.strerror(sink.error.errno)}")
