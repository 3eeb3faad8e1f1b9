"""How the emulated kernel says no: an errno, on its way to the answer."""

import errno


class Refused(Exception):
    """A request ends with this errno.

    Attributes:
        errno: A positive errno.
    """

    def __init__(self, errno_: int) -> None:
        super().__init__(errno.errorcode[errno_])
        self.errno = errno_
