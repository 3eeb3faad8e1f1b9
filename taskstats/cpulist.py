"""CPU lists, in ranges and strides as the kernel writes them: 0-3,8 or 0-31:2/4.

Not all that lib/bitmap-str.c takes: a list has no empty parts here, and neither "all" nor "N".
"""

from collections.abc import Iterable

_HIGHEST = 0xFFFE  # a record keeps its CPU in 16 bits, all ones for none


def parse(text: str) -> list[int]:
    """The CPUs of a list, ascending.

    "A-B" is a range; "A-B:U/G" the first U of every G CPUs in it.

    Raises:
        ValueError: Not such a list; the message names the part.
    """
    cpus: set[int] = set()
    for part in text.split(","):
        cpus.update(_range(part.strip(), text))
    return sorted(cpus)


def _range(part: str, text: str) -> Iterable[int]:
    span, _, stride = part.partition(":")
    first, dash, last = span.partition("-")
    try:
        start = _number(first)
        end = _number(last) if dash else start
        used, group = (_number(n) for n in stride.split("/")) if stride else (1, 1)
        if end > _HIGHEST or start > end or not 0 < used <= group or (":" in part and not stride):
            raise ValueError
    except ValueError:
        raise ValueError(f"not a CPU list: {part!r} in {text!r}") from None
    return (cpu for cpu in range(start, end + 1) if (cpu - start) % group < used)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def chosen(cpus: str | Iterable[int] | None, possible: str) -> list[int]:
    """The CPUs that a caller asks for, checked against those that can exist.

    Args:
        cpus: A list in the kernel's notation, numbers, or None for all.
        possible: The machine's possible CPUs.

    Raises:
        ValueError: Not a list, an empty one, or a CPU that does not exist; the message names it.
    """
    known = parse(possible)
    if cpus is None:
        return known
    wanted = parse(cpus) if isinstance(cpus, str) else sorted(set(cpus))
    if not wanted:
        raise ValueError("no CPU given")
    missing = sorted(set(wanted) - set(known))
    if missing:
        names = ", ".join(map(str, missing))
        raise ValueError(f"no such CPU: {names} (this machine has {possible})")
    return wanted
