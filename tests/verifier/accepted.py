"""Generations that were given up, and whether somebody accepted that they were: docs/verify.md, "An accepted rollback"."""
import base64
import binascii

BEGUN, ACCEPTED = "journal.new_generation", "journal.rollback_accepted"


def told(event):
    """What an agent event says about generations; None if it is about something else."""
    own = (event["kind"], event["event_source"]) == ("agent", "agent")
    return event if own and event["event_name"] in (BEGUN, ACCEPTED) else None


def formers(generation):
    """Origins of those that it says, signed, it took the place of."""
    return [(event["event_data"] or {}).get("former_origin") for seq, event in generation.told
            if event["event_name"] == BEGUN and seq < generation.held]


def accepts(generation):
    """Whether it has a signed event that accepts a rollback."""
    return any(event["event_name"] == ACCEPTED and seq < generation.held for seq, event in generation.told)


def as_given_up(generation, data):
    """Whether all its records are those over which this root was told."""
    try:
        root = base64.b64decode(data.get("root") or "", validate=True)
    except (binascii.Error, TypeError):
        return False
    plain = generation.plain
    return plain is not None and generation.size == data.get("entries") and plain.root() == root


def acceptance(generation, newer):
    """The signed event by which `generation` was accepted as it is now; `newer` are those after it, oldest first."""
    begun = False
    for each in newer:
        for seq, event in each.told:
            data = event["event_data"] or {}
            if seq >= each.held:
                continue
            if event["event_name"] == BEGUN and data.get("former_origin") == generation.origin:
                begun = begun or as_given_up(generation, data)
            elif event["event_name"] == ACCEPTED and begun:
                return f"{event['username']} at {event['event_time']}: {data.get('reason')} (seq {seq} of {each.origin})"
    return None


def begun_over(generation, newer):
    """What the generations behind it say, signed, that they took the place of."""
    events = [(each, event) for each in newer for seq, event in each.told if seq < each.held]
    data = [(event["event_data"] or {}) for _, event in events if event["event_name"] == BEGUN]
    return [each for each in data if each.get("former_origin") == generation.origin and each.get("root")]


def forgive(generations, report):
    """Makes notes of the faults of accepted generations; `generations` oldest first."""
    for number, generation in enumerate(generations):
        over = begun_over(generation, generations[number + 1:])
        if generation.by_former and not over:
            report.tampered(generation.by_former, "is signed by a former key only, and no newer generation says so")
        if over and not generation.lines and not any(as_given_up(generation, each) for each in over):
            report.tampered(f"{generation.place}/seg", "not the records that the next generation took the place of")
        explained = [line for line in generation.lines if line not in report.lasting]
        by = explained and acceptance(generation, generations[number + 1:])
        if by:
            for line in explained:
                report.lines.remove(line)
            first = explained[0].removeprefix("tampered: ")
            report.note(f"{generation.origin}: {len(explained)} faults were accepted by {by}; the first: {first}")
