"""Write a text one letter at a time, the odd letters to stdout and the even ones to stderr, as fast as it goes."""

import os

WIDTH = 60

TEXT = """
Every letter of this text was written by a call of its own,
the odd ones to standard output and the even ones to
standard error, as fast as the program could write them.

On the screen, the two streams are shown line by line, so
neither makes sense there. In the file of both streams each
letter stands where it was written: the kernel has put them
into one queue, in the order of the calls, and whoever reads
that queue still knows which stream each of them came from.

Two pipes, one for each stream, cannot do that: who reads
them learns what was written, but no longer when.
"""


def main() -> None:
    # With the line's end an odd number of letters: so both streams get line ends, by turns.
    text = "".join(line.ljust(WIDTH) + "\n" for line in TEXT.strip().splitlines())
    for index, letter in enumerate(text.encode()):
        os.write(1 + index % 2, bytes([letter]))


if __name__ == "__main__":
    main()
