"""A quarter of a gigabyte through a slow reader: nothing is lost, and nobody holds it meanwhile."""

import hashlib

import pytest

WRITE_BYTES = 64 * 1024
pytestmark = pytest.mark.timeout(900)


def digest(count, size_bytes):
    """Of what programs/writes writes."""
    whole = hashlib.sha256()
    for i in range(count):
        whole.update(bytes([97 + i % 26]) * (size_bytes - 1) + b"\n")
    return whole.hexdigest()


@pytest.mark.parametrize("capture_mode", ["ordered", "turnstile", "pipe", "pty"])
@pytest.mark.parametrize("size_bytes", [WRITE_BYTES, 3 * WRITE_BYTES + 1])
def test_256_megabytes_through_a_slow_reader_are_complete_and_take_no_memory(capture_mode, slowly_read, programs, size_bytes):
    count = (256 << 20) // size_bytes
    flood = slowly_read("--capture", capture_mode, programs / "writes", count, size_bytes, 0)
    growth_bytes = max(flood.rss_bytes) - flood.rss_bytes[0]
    print(f"{capture_mode}: RSS {flood.rss_bytes[0] >> 10} KiB, at most {growth_bytes >> 10} KiB more, {len(flood.rss_bytes)} samples")
    assert (flood.returncode, flood.size_bytes) == (0, count * size_bytes)
    assert flood.sha256 == digest(count, size_bytes)
    assert growth_bytes < 30 << 20
