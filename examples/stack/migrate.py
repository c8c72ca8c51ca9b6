"""The migration: brings the data to the version that the programs expect, one step after the other, each at most once."""

from store import Redis

STEPS = (
    [("SETNX", "total:texts", 0), ("SETNX", "total:words", 0)],
    [("SETNX", "total:visits", 0), ("HSETNX", "about", "made-by", "migrate.py")],
)

with Redis() as redis:
    version = int(redis("GET", "version") or 0)
    print(f"the data has version {version} of {len(STEPS)}")
    for number, step in enumerate(STEPS[version:], version + 1):
        redis.all(*step, ("SET", "version", number))
        print(f"migrated to version {number}")
