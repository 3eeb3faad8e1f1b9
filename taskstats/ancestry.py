"""Who descends from whom: by the records of the ended, and by asking for the living. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Any, Final, Generic, TypeAlias, TypeVar

from taskstats.records import Batch

Owner = TypeVar("Owner")

#: Asks for tasks by their ids, as `Client.pids` does.
Query: TypeAlias = Callable[[Sequence[int]], Batch]

#: Nanoseconds of the stream's time within which two exits can be read in the wrong order: the
#: queues of the CPUs are read one after the other.
DISORDER_NS = 100_000_000


class Waits(Enum):
    """Whose it is cannot be told before its parent is known."""

    WAITS = auto()


WAITS: Final = Waits.WAITS


class End(Generic[Owner]):
    """A process that has ended.

    Attributes:
        pid: Its id (the kernel's tgid).
        parent: Its parent's, when it ended.
        lived: For how long, microseconds.
        received: When its record was read, ns since the epoch.
        owner: Whose its children are: None for nobody's, or Unclear. WAITS until that is settled.
        about: What the caller keeps with it until then.
        begun: How many jobs had begun when it was taken.
        before: The one with the same pid that ended before it, if that is remembered.
    """

    __slots__ = ("about", "before", "begun", "lived", "owner", "parent", "pid", "received")

    begun: int  # set where it is held, or has threads: of most it stands with their batch

    def __init__(self, pid: int, parent: int, lived: int, received: int) -> None:
        self.pid = pid
        self.parent = parent
        self.lived = lived
        self.received = received
        self.about: Any = None
        self.owner: Owner | Unclear[Owner] | Waits | None = WAITS
        self.before: End[Owner] | None = None


class Unclear(Generic[Owner]):
    """Whose it is cannot be told, ever.

    Attributes:
        owners: Those who may own it; nobody may, too.
        reused: A pid was given out again so soon that its two owners cannot be told apart; else
            an orphan was inherited by a process that inherits from several.
    """

    __slots__ = ("owners", "reused")

    def __init__(self, owners: Iterable[Owner], *, reused: bool) -> None:
        self.owners = frozenset(owners)
        self.reused = reused


#: Its parent's record never came, and it could not be asked for.
UNHEARD: Final[Unclear[Any]] = Unclear((), reused=False)


class Ancestry(Generic[Owner]):
    """Finds whose a process is: its nearest ancestor that is somebody's root decides.

    Args:
        query: Asks for living processes; None to wait until they end.
        capacity: The most living processes to remember.
    """

    def __init__(self, query: Query | None, capacity: int) -> None:
        self._query = query
        self._capacity = capacity
        self._roots: dict[int, tuple[Owner, int]] = {}  # by pid; and how long it had lived
        self._heirs: dict[int, set[Owner | None]] = {}  # by a subreaper's pid; None was there once
        self._ends: dict[int, End[Owner]] = {}  # those read lately: the last of each pid
        self._around: dict[int, Owner | Unclear[Owner] | None] = {}  # whose a subreaper itself is
        # By pid: whose its children are.
        self._living: dict[int, Owner | Unclear[Owner] | None] = {}
        self._asked: dict[int, int] = {}  # those asked for last, and how long they had lived
        self._doubted = False
        self.forget_living()

    # -- roots

    def is_root(self, pid: int) -> bool:
        """Whether it is a root that lives, as far as is heard."""
        return pid in self._roots

    def own(self, pid: int, owner: Owner, subreaper: int | None) -> Owner | Unclear[Owner] | None:
        """Makes a process a root; says whose it was before, as far as can be told.

        If that cannot be asked for, it is none.
        """
        self.learn([pid] if subreaper is None else [pid, subreaper])
        self._roots[pid] = owner, self._asked.get(pid, 0)
        if subreaper is None:
            before = self._living.get(pid)
        else:
            # By now its children may be others', but not itself.
            before = self._around.setdefault(subreaper, self._living.get(subreaper))
            self._heirs.setdefault(subreaper, set()).add(owner)
        self.forget_living()
        return before

    def disown(self, pid: int, owner: Owner, subreaper: int | None) -> None:
        """What descends from it is nobody's from now on."""
        if pid in self._roots and self._roots[pid][0] is owner:
            del self._roots[pid]
        heirs = self._heirs.get(subreaper, set()) if subreaper is not None else set()
        if owner in heirs:
            heirs.remove(owner)
            heirs.add(None)
        self.forget_living()

    def forget_living(self) -> None:
        """Forgets what was asked for: an end may have been missed, or roots have changed."""
        self._living = {0: None}
        self._living |= {pid: _inherited(heirs) for pid, heirs in self._heirs.items()}
        self._living |= {pid: owner for pid, (owner, _) in self._roots.items()}

    def doubt(self) -> None:
        """An end may have been missed: the living, roots too, must be asked for again."""
        self._doubted = True
        self.forget_living()

    # -- the ended

    def add(self, ends: Iterable[End[Owner]]) -> None:
        """Processes have ended; their pids may be others' from now on."""
        before, roots, living = self._ends, self._roots, self._living
        for end in ends:
            pid = end.pid
            end.before = before.get(pid)
            before[pid] = end
            if pid in roots:
                owner, lived = roots[pid]
                if end.lived < lived:
                    continue  # of one that had the pid before
                del roots[pid]
                end.owner = owner
            if pid in living:
                del living[pid]

    def remove(self, ends: Iterable[End[Owner]]) -> None:
        """Forgets processes that ended so long ago that no record of a child is on its way."""
        for end in ends:
            after, one = None, self._ends[end.pid]
            while one is not end and one.before:
                after, one = one, one.before
            if after:
                after.before = end.before
            elif end.before:
                self._ends[end.pid] = end.before
            else:
                del self._ends[end.pid]

    def settle(
        self, ends: Iterable[End[Owner]], *, late: bool = False
    ) -> list[Owner | Unclear[Owner] | Waits | None]:
        """Finds whose each one is; if that can be told, it stands there from now on.

        Args:
            ends: They.
            late: They have waited so long that their parents can only be such as ended well before
                them: a process keeps its children while the kernel takes down its memory, after its
                record.
        """
        found = []
        for end in ends:
            owner = end.owner
            if owner is WAITS:  # no root
                if end.parent in self._ends:
                    owner = self._of_child(end)
                    if late and owner is WAITS and self._query:
                        owner = self._ends[end.parent].owner
                elif self._asked:
                    owner = self._of_living(end)
                else:
                    owner = self._living.get(end.parent, WAITS)
                end.owner = owner
                if owner is not WAITS and end.pid in self._heirs:
                    end.owner = _inherited(self._heirs[end.pid])  # whose its children were
                    self._inherits_no_more(end.pid)
            found.append(owner)
        return found

    def give_up(self, end: End[Owner]) -> None:
        """Whose it is will not be known; nor whose its children are."""
        end.owner = UNHEARD
        self._inherits_no_more(end.pid)

    def _inherits_no_more(self, subreaper: int) -> None:
        self._heirs.pop(subreaper, None)
        self._around.pop(subreaper, None)

    def _of_child(self, end: End[Owner]) -> Owner | Unclear[Owner] | Waits | None:
        """Whose it is, where processes of its parent's pid have ended lately."""
        # Who ended well before it was not its parent; who was the first to end well after it was.
        owners = []
        for one in reversed(self._ends_of(end.parent)):
            if one.received >= end.received - DISORDER_NS:
                if one.owner is WAITS:
                    return WAITS
                owners.append(one.owner)
                if one.received > end.received + DISORDER_NS:
                    break
        else:
            living = self._of_living(end)
            if living is not WAITS:
                owners.append(living)
        return _agreed(owners) if owners else WAITS

    def _ends_of(self, pid: int) -> list[End[Owner]]:
        """Those with this pid that ended lately, the last one first."""
        found = []
        one = self._ends.get(pid)
        while one:
            found.append(one)
            one = one.before
        return found

    # -- the living

    def unknown_parents(self, ends: Sequence[End[Owner]]) -> set[int]:
        """The parents to ask for: those that have not ended lately, and are not known."""
        unknown = {end.parent for end in ends} - self._living.keys()
        return unknown and {
            end.parent for end in ends if end.parent in unknown and not self._ended_lately(end)
        }

    def _ended_lately(self, child: End[Owner]) -> bool:
        """Whether a process of its parent's pid may have ended after it."""
        lately = child.received - DISORDER_NS
        return any(one.received >= lately for one in self._ends_of(child.parent))

    def of_living(self, pid: int) -> Owner | Unclear[Owner] | Waits | None:
        """Whose the children of a living process are: but for one that inherits, whose it is."""
        return self._living.get(pid, WAITS)

    def _of_living(self, end: End[Owner]) -> Owner | Unclear[Owner] | Waits | None:
        """Whose it is, if its parent lives."""
        if self._asked.get(end.parent, end.lived) < end.lived:
            return WAITS  # it has the parent's pid, and is younger
        return self._living.get(end.parent, WAITS)

    def learn(self, pids: Iterable[int]) -> None:
        """Asks for living processes, and for their ancestors as far as they are unknown.

        Call it, with no pids if there are none, before what has been fed until then is settled.
        """
        if self._doubted and self._query is not None:
            self._drop_reused(self._query(sorted(self._roots)))
            self._doubted = False
        self._asked = {}
        found: dict[int, tuple[int, int]] = {}  # parent, and how long it has lived
        wanted = dict.fromkeys(pids, 0)  # and how long a child has lived
        while wanted and self._query is not None:
            records = [
                one
                for one in self._query(sorted(wanted))
                if one.id == one.ac_tgid and one.ac_tgetime >= wanted[one.id]
            ]
            found |= {one.id: (one.ac_ppid, one.ac_tgetime) for one in records}
            wanted = {}
            for one in records:
                if one.ac_ppid not in found and one.ac_ppid not in self._living:
                    wanted[one.ac_ppid] = max(one.ac_tgetime, wanted.get(one.ac_ppid, 0))
        self._asked = {pid: lived for pid, (_, lived) in found.items()}
        if len(self._living) + len(found) > self._capacity:
            self.forget_living()
        for pid in found:
            self._learned(pid, found)

    def _drop_reused(self, records: Batch) -> None:
        """Drops the roots whose pid is another's, who is younger: their end was missed."""
        for one in records:
            if one.id != one.ac_tgid or one.ac_tgetime < self._roots[one.id][1]:
                del self._roots[one.id]
        self.forget_living()

    def _learned(self, pid: int, found: dict[int, tuple[int, int]]) -> None:
        """Remembers whose a process is, and all those on the way up to one that is known."""
        way: list[int] = []
        while pid not in self._living:
            if pid not in found or pid in way:
                return  # it ended meanwhile
            way.append(pid)
            pid = found[pid][0]
        for one in way:
            self._living[one] = self._living[pid]


def _inherited(heirs: set[Owner | None]) -> Owner | Unclear[Owner] | None:
    """Whose an orphan is that was inherited on behalf of these."""
    if len(heirs) == 1:
        return next(iter(heirs))
    return Unclear((one for one in heirs if one is not None), reused=False)


def _agreed(
    owners: Sequence[Owner | Unclear[Owner] | None],
) -> Owner | Unclear[Owner] | None:
    """The owner that all have in common, or Unclear."""
    first = owners[0]
    if all(one is first for one in owners):
        return first
    several: set[Owner] = set()
    for one in owners:
        if isinstance(one, Unclear):
            several |= one.owners
        elif one is not None:
            several.add(one)
    return Unclear(several, reused=True)
