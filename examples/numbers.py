"""Count to 20,000, a line a number: the odd ones to stdout, the even ones to stderr. With file names: check what was captured.

numbers.py            count
numbers.py OUT ERR COMBINED
                      say whether the three files hold exactly that
"""

import os
import sys

LAST = 20_000


def line(number: int) -> bytes:
    return f"line {number}\n".encode()


def count() -> None:
    for number in range(1, LAST + 1):
        os.write(1 if number % 2 else 2, line(number))


def check(out: str, err: str, combined: str) -> int:
    wrong = 0
    for path, numbers in ((out, range(1, LAST + 1, 2)), (err, range(2, LAST + 1, 2)), (combined, range(1, LAST + 1))):
        with open(path, "rb") as file:
            right = file.read() == b"".join(map(line, numbers))
        wrong += not right
        what = f"exactly the {len(numbers):,} lines {numbers[0]}, {numbers[1]}, {numbers[2]}, ... {numbers[-1]:,}"
        print(f"{os.path.basename(path):12} {what if right else 'WRONG: not ' + what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(check(*sys.argv[1:]) if sys.argv[1:] else count())
