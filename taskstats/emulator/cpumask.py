"""CPU lists as the kernel reads them (lib/bitmap: bitmap_parselist)."""

import errno

from taskstats.emulator.errors import Refused

_SPACE = b" \t\n\v\f\r\xa0"  # what the kernel's isspace takes for some
_BETWEEN = _SPACE + b","
_END = b"\0\n"
_U32 = 0xFFFFFFFF  # such are the kernel's numbers


def parse(text: bytes, n_cpus: int) -> set[int]:
    """The CPUs of a list.

    Ranges stand between commas or white space: "3", "0-3", "0-7:1/2" (of every two the first), "N"
    for the last CPU, "all". A NUL ends it, and so does a newline right behind a range without a
    pattern; an empty list is one.

    Args:
        text: The list.
        n_cpus: One more than the last CPU's number.

    Raises:
        Refused: EINVAL for what is no list, ERANGE for a CPU beyond the last, EOVERFLOW for a
            number of more than 32 bits.
    """
    reader = _Reader(text, n_cpus - 1)
    found: set[int] = set()
    while reader.next_region():
        start, end, used, of = reader.region()
        if start > end or of == 0 or used > of:
            raise Refused(errno.EINVAL)
        if end >= n_cpus:
            raise Refused(errno.ERANGE)
        for first in range(start, end + 1, of):
            found.update(range(first, min(first + used, end + 1)))
    return found


class _Reader:
    def __init__(self, text: bytes, last: int) -> None:
        self._text = text + b"\0"
        self._at = 0
        self._last = last

    def _is(self, characters: bytes) -> bool:
        return self._text[self._at] in characters

    def next_region(self) -> bool:
        """Goes to where the next one begins; False at the end."""
        while self._is(_BETWEEN):
            self._at += 1
        return not self._is(_END)

    def region(self) -> tuple[int, int, int, int]:
        """The first and the last CPU, and of how many CPUs in turn how many count."""
        if self._text[self._at : self._at + 3].lower() == b"all":
            self._at += 3
            start, end = 0, self._last
        else:
            start = end = self._number()
            if not self._is(_BETWEEN + _END):
                self._expect(b"-")
                end = self._number()
        if self._is(_BETWEEN + _END):
            if self._is(_END):
                self._at = len(self._text) - 1
            all_of = (end + 1) & _U32
            return start, end, all_of, all_of
        self._expect(b":")
        used = self._number()
        self._expect(b"/")
        return start, end, used, self._number()

    def _expect(self, character: bytes) -> None:
        if not self._is(character):
            raise Refused(errno.EINVAL)
        self._at += 1

    def _number(self) -> int:
        if self._is(b"N"):
            self._at += 1
            return self._last
        start = self._at
        while self._is(b"0123456789"):
            self._at += 1
        if start == self._at:
            raise Refused(errno.EINVAL)
        number = int(self._text[start : self._at])
        if number > _U32:
            raise Refused(errno.EOVERFLOW)
        return number
