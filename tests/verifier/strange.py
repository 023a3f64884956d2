"""What has the name of a file or directory of the journal and is none; it is not opened, since a pipe would block."""
FILES = ("journal/origin", "keys/log.*", "positions/*", "dlq/*.jsonl", "events.db", "events.db-*")
OF_GENERATION = ("checkpoint", "checkpoints", "former", "accepted", "seg/*.seg", "seg/*.leaf", "seg/*.sub",
                 "tile/[0-9]*/[0-9][0-9][0-9]", "tile/[0-9]*/x*/**/[0-9][0-9][0-9]")
DIRECTORIES = ("journal", "keys", "positions", "dlq")
DIRECTORIES_OF_GENERATION = ("", "seg", "tile", "tile/[0-9]*", "tile/[0-9]*/x[0-9][0-9][0-9]")


def tell(data_dir, report):
    """Reports each; whether there is any."""
    generation = "journal/[0-9]*"
    files = FILES + tuple(f"{generation}/{name}" for name in OF_GENERATION)
    directories = DIRECTORIES + tuple(f"{generation}/{name}".rstrip("/") for name in DIRECTORIES_OF_GENERATION)
    before = len(report.lines)
    for patterns, fits, what in ((files, "is_file", "file"), (directories, "is_dir", "directory")):
        for path in sorted(path for pattern in patterns for path in data_dir.glob(pattern)):
            if not getattr(path, fits)():
                place = path.relative_to(data_dir).as_posix()
                report.tampered(place, f"something else in the place of a {what}", lasting=True)
    return len(report.lines) > before
