"""The canonical bytes of an event: fourteen members in a fixed order, minimally escaped."""
import datetime
import ipaddress
import json
import re
import uuid

from report import Bad

KINDS = {1: "application", 2: "kernel", 3: "immudb", 4: "agent"}
STATE = 5
MAX_DEPTH = 32

_PLAIN = r'[^"\\\x00-\x1f]*'
_ESCAPE = r'\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f]))'
VALUE = re.compile(rf'"({_PLAIN}(?:{_ESCAPE}{_PLAIN})*)"|null|true|false')
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{9}|\d{6}|\d{3})Z", re.ASCII)
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def id_text(id_):
    return str(uuid.UUID(bytes=id_))


def _string(low, high, null=False):
    def check(value):
        if value is None:
            return null
        return isinstance(value, str) and low <= len(value.encode()) <= high
    return check


def _one_of(*names):
    return lambda value: isinstance(value, str) and value in names


def _event_id(value):
    return isinstance(value, str) and UUID7.fullmatch(value) is not None


def _time(value):
    match = TIME.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return False
    fraction = match[7]
    if len(fraction) > 3 and fraction.endswith("000"):
        return False
    try:
        datetime.datetime(*map(int, match.groups()[:6]))
    except ValueError:
        return False
    return True


def address_text(address):
    """Standard text form: RFC 5952, IPv4-mapped addresses with dots."""
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else address.compressed


def _address(value):
    if value == "-":
        return True
    try:
        return "%" not in value and address_text(ipaddress.ip_address(value)) == value
    except (TypeError, ValueError):
        return False


CHECKS = {
    "event_id": _event_id,
    "event_time": _time,
    "event_name": _string(1, 256),
    "username": _string(1, 256),
    "resource": _string(0, 4096, null=True),
    "event_source": _string(1, 128),
    "source_ip_address": _address,
    "request_id": _string(0, 256, null=True),
    "read_only": lambda value: isinstance(value, bool),
    "kind": _one_of(*KINDS.values()),
    "host": _string(1, 1 << 20),
    "outcome": _one_of("success", "failure", "unknown"),
    "severity": _one_of("info", "notice", "warning", "error", "critical"),
}
LITERALS = {"null": None, "true": True, "false": False}


def parse(payload):
    """The members of canonical bytes; `event_data` parsed, `event_data_text` as it stands. Raises Bad."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Bad("canonical bytes are not UTF-8") from None
    event, pos, lead = {}, 0, "{"
    for name, check in CHECKS.items():
        pos = _expect(text, pos, f'{lead}"{name}":', name)
        match = VALUE.match(text, pos)
        if not match:
            raise Bad(f"{name} is no minimally escaped value")
        raw = match[1]
        if raw is None:
            value = LITERALS[match[0]]
        else:
            value = json.loads(match[0]) if "\\" in raw else raw
        if not check(value):
            raise Bad(f"{name} has a value that is not allowed")
        event[name] = value
        pos, lead = match.end(), ","
    pos = _expect(text, pos, ',"event_data":', "event_data")
    event["event_data"], end = parse_data(text, pos)
    event["event_data_text"] = text[pos:end]
    if text[end:] != "}":
        raise Bad("something follows event_data")
    return event


def _expect(text, pos, lead, name):
    if not text.startswith(lead, pos):
        raise Bad(f"member {name} is not in its place")
    return pos + len(lead)


def _object(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Bad("event_data has a member name twice in one object")
    if any("\0" in name for name in members):
        raise Bad("event_data has U+0000 in a name")
    return members


def _no_constant(name):
    raise Bad(f"event_data has {name}, which is no JSON")


def _int(digits):
    return int(digits) if len(digits) < 25 else digits


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_float=str,
                           parse_constant=_no_constant)


def parse_data(text, pos):
    try:
        data, end = DECODER.raw_decode(text, pos)
        depth = _depth(data)
    except (ValueError, RecursionError):
        raise Bad("event_data is no JSON value, or far too deep") from None
    if not (data is None or isinstance(data, dict)):
        raise Bad("event_data is neither an object nor null")
    if depth > MAX_DEPTH:
        raise Bad(f"event_data is deeper than {MAX_DEPTH}")
    return data, end


def _depth(value):
    """Nesting depth; an object or list counts as one. Refuses lone surrogates on the way."""
    if isinstance(value, str):
        _no_surrogate(value)
        return 0
    if isinstance(value, dict):
        for name in value:
            _no_surrogate(name)
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _no_surrogate(text):
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Bad("event_data has a lone surrogate") from None
