"""Answer: the record of one query, made a batch only when somebody needs one.

A batch, its columns and which fields they have would add half as much again to what the kernel
takes to answer. So an answer finds out what it has when its first field is read, and reads each by
name from the row that the shim has filled.
"""

from typing import Any

from taskstats import presence
from taskstats._native import ffi, lib
from taskstats.errors import field_unavailable
from taskstats.fields import FIELDS, Field
from taskstats.records import Batch, Record
from taskstats.rows import Kind, Shape

#: The shim's code of a kind -> its name.
KINDS: dict[int, Kind] = {lib.TS_TASK: "task", lib.TS_GROUP: "group"}


class Answer(Record):
    """A record in a row of its own (`_cell`, a struct ts_record of the shim).

    Client makes it, and sets `_cell`, and `_fields` to None.
    """

    __slots__ = ("_cell", "_fields", "_made", "_stats")

    _row = 0
    _cell: Any
    _fields: frozenset[str] | None
    _made: Batch
    _stats: Any

    def _header(self, name: str) -> int:
        value: int = getattr(self._cell, name)
        return value

    @property
    def kind(self) -> Kind:
        """What was accounted: "task" or "group"."""
        return KINDS[self._cell.kind]

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that it carries."""
        return self._fields or self._open()

    @property
    def _batch(self) -> Batch:  # type: ignore[override]
        try:
            return self._made
        except AttributeError:
            self._made = Batch(ffi.buffer(self._cell), kind=self.kind)
            return self._made

    def _shape(self) -> Shape:
        return self.version, self.size, self.kind, self._flags & presence.SHAPE_FLAGS

    def _open(self) -> frozenset[str]:
        self._stats = self._cell.stats
        self._fields = fields = presence.present(*self._shape())
        return fields


def _field_of_answers(field: Field[Any]) -> Field[Any]:
    """The same field, as an answer reads it."""
    name = field.name

    def number(answer: Answer) -> Any:
        if name not in (answer._fields or answer._open()):
            raise field_unavailable(name, presence.why_absent(name, *answer._shape()))
        return getattr(answer._stats, name)

    def text(answer: Answer) -> bytes:
        value: bytes = ffi.string(number(answer))
        return value

    def moment(answer: Answer) -> int:
        time = number(answer)
        ns: int = time.tv_sec * 1_000_000_000 + time.tv_nsec
        return ns

    read = {"32s": text, "qq": moment}.get(field.format, number)
    made = Field.__new__(Field)
    vars(made).update(vars(field))
    property.__init__(made, read, doc=field.doc)
    return made


for _field in FIELDS.values():
    setattr(Answer, _field.name, _field_of_answers(_field))
