"""An answer is the record of its row in every respect, whatever the kernel."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from support import wire

import taskstats
from taskstats import FIELDS, Batch, FieldUnavailable, Record
from taskstats._native import ffi
from taskstats.answers import Answer

VERSIONS = range(4, 18)
KINDS: tuple[wire.Kind, ...] = ("task", "group")


def batch_of(version: int, kind: wire.Kind, **values: Any) -> Batch:
    data = wire.datagram(version, None, (kind,), {**wire.SAMPLE, **values}, port=1, fill=0)
    batch = taskstats.decode(data)
    return batch if kind == "task" else batch.groups


def answer_in(batch: Batch) -> Answer:
    """As Client makes it."""
    cell = ffi.new("struct ts_record *")
    ffi.buffer(cell)[:] = bytes(batch.data)
    answer = object.__new__(Answer)
    answer._cell = cell
    answer._fields = None
    return answer


def public(thing: object) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


def outcome(read: Callable[[], object]) -> object:
    """What it gives, or the error that says why not."""
    try:
        return read()
    except FieldUnavailable as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_attribute(version: int, kind: wire.Kind) -> None:
    batch = batch_of(version, kind)
    answer, record = answer_in(batch), batch[0]
    names = [name for name in public(Record) if not callable(getattr(Record, name))]
    assert set(FIELDS) <= set(names)
    assert {name: getattr(Answer, name).unit for name in FIELDS} == {
        name: field.unit for name, field in FIELDS.items()
    }
    for name in names:
        expected = outcome(lambda name=name: getattr(record, name))  # type: ignore[misc]
        assert outcome(lambda name=name: getattr(answer, name)) == expected, name  # type: ignore[misc]
    assert answer.to_dict() == record.to_dict()
    assert public(answer) == public(record)


def test_group_without_sums() -> None:
    batch = batch_of(
        16, "group", ac_etime=0, cpu_count=0, cpu_run_virtual_total=0, cpu_run_real_total=0
    )
    with pytest.raises(FieldUnavailable, match="had all ended"):
        _ = answer_in(batch).nvcsw


def test_as_a_value() -> None:
    batch = batch_of(17, "task")
    answer = answer_in(batch)
    assert isinstance(answer, Record)
    for same in (batch[0], pickle.loads(pickle.dumps(answer)), copy.copy(answer)):
        assert (answer == same, hash(answer), repr(answer)) == (True, hash(same), repr(same))
    assert answer != batch_of(17, "task", ac_utime=1)[0]
