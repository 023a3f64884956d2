"""Faults found, things worth saying, and the two errors the modules raise."""


class Bad(Exception):
    """What was read breaks a rule of the format."""


class Other(Bad):
    """A row that is no contradiction in itself, and not the event of its record."""


class CannotCheck(Exception):
    """Something needed for the check is missing or unreadable: exit status 2."""


class Report:
    def __init__(self):
        self.lines = []
        self.lasting = set()        # lines of what no rollback explains
        self.notes = []
        self.ranges = []

    def tampered(self, place, what, first=None, last=None, event=None, lasting=False):
        """One fault, returned as its line; `last` is inclusive and defaults to `first`."""
        where = ""
        if first is not None:
            last = first if last is None else last
            self.ranges.append((place, first, last))
            where = f"seq {first}" if first == last else f"seq {first}-{last}"
            where += f", event {event}: " if event else ": "
        line = f"tampered: {place}: {where}{what}"
        self.lines.append(line)
        if lasting:
            self.lasting.add(line)
        return line

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def known(self, place, first, end):
        """Whether a fault below `place` that touches first..end (exclusive) has been reported already."""
        return any(a < end and b >= first and where.startswith(place) for where, a, b in self.ranges)

    def status(self):
        return 1 if self.lines else 0
