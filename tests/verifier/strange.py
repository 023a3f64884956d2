"""What has the name of a file or directory of the journal and is none; it is not opened, since a pipe would block."""
import errno
import stat

FILES = ("journal/origin", "keys/log.*", "positions/*", "dlq/*.jsonl", "events.db", "events.db-*")
OF_GENERATION = ("checkpoint", "checkpoints", "former", "accepted", "seg/*.seg", "seg/*.leaf", "seg/*.sub",
                 "tile/[0-9]*/[0-9][0-9][0-9]", "tile/[0-9]*/x*/**/[0-9][0-9][0-9]")
DIRECTORIES = ("journal", "keys", "positions", "dlq")
DIRECTORIES_OF_GENERATION = ("", "seg", "tile", "tile/[0-9]*", "tile/[0-9]*/x[0-9][0-9][0-9]")
# Where its files are a link to nothing they are none of the journal's; who reads them says that it can't.
OF_STORE = "events.db"


def tell(data_dir, report):
    """Reports each; whether there is any."""
    generation = "journal/[0-9]*"
    files = FILES + tuple(f"{generation}/{name}" for name in OF_GENERATION)
    directories = DIRECTORIES + tuple(f"{generation}/{name}".rstrip("/") for name in DIRECTORIES_OF_GENERATION)
    before = len(report.lines)
    for patterns, fits, what in ((files, stat.S_ISREG, "file"), (directories, stat.S_ISDIR, "directory")):
        for path in sorted(path for pattern in patterns for path in listed(data_dir, pattern)):
            place = path.relative_to(data_dir).as_posix()
            if is_other(path, fits, place.startswith(OF_STORE)):
                report.tampered(place, f"something else in the place of a {what}", lasting=True)
    return len(report.lines) > before


def listed(data_dir, pattern):
    """Paths of a pattern, links to nothing among them; not what is being written beside a file."""
    parent, _, name = pattern.rpartition("/")
    if any(char in name for char in "*["):
        return [path for path in data_dir.glob(pattern) if not path.name.endswith(".new")]
    return [each / name for each in (data_dir.glob(parent) if parent else (data_dir,))]


def is_other(path, fits, of_store):
    """Whether something else is there. A running agent may have removed or replaced it since it was listed."""
    try:
        return not fits(path.stat().st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return path.is_symlink() and not of_store
