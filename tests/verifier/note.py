"""Signed notes, verifier keys and checkpoints (C2SP signed-note and tlog-checkpoint)."""
import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from report import Bad, CannotCheck

ED25519 = b"\x01"
ORIGIN = re.compile(r"(?P<base>\S+/[0-9a-f]{16})(?:/gen/(?P<generation>[1-9]\d*))?", re.ASCII)
NOTE = re.compile(r"((?:[^\n]+\n)+)\n((?:— [^\n]+\n)+)")
SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")
BODY = re.compile(r"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n(?:[^\n]+\n)*")


def decode64(text):
    """Standard padded base64, only as an encoder would have written it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Bad("bad base64") from None
    if base64.b64encode(data).decode() != text:
        raise Bad("base64 that no encoder writes")
    return data


class Key(NamedTuple):
    name: str
    public: bytes

    @property
    def id(self):
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @classmethod
    def parse(cls, text):
        try:
            name, key_id, data = text.strip().split("+", 2)
            data = decode64(data)
            key = cls(name, data[1:])
            if data[:1] != ED25519 or len(data) != 33 or key.id.hex() != key_id:
                raise Bad("it is no Ed25519 key or its id is wrong")
            return key
        except (ValueError, Bad) as error:
            raise CannotCheck(f"no usable verifier key: {error}") from None

    def for_origin(self, origin):
        """The same key under the name of another generation of the same journal, or None."""
        mine, other = ORIGIN.fullmatch(self.name), ORIGIN.fullmatch(origin)
        if self.name == origin or mine and other and mine["base"] == other["base"]:
            return Key(origin, self.public)
        return None


class Checkpoint(NamedTuple):
    origin: str
    size: int
    root: bytes


def notes(data):
    """The notes of a file, one after the other. Returns them as (text, signatures) and what is left."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Bad("not UTF-8") from None
    found, pos = [], 0
    while match := NOTE.match(text, pos):
        found.append((match[1], match[2]))
        pos = match.end()
    return found, text[pos:]


class Unsigned(Bad):
    """Only other keys have signed it."""


def checkpoint(note, key):
    """The checkpoint in a note that `key` (under the name of the note's origin) has signed. Raises Bad."""
    text, signatures = note
    if any(ord(char) < 32 and char != "\n" for char in text + signatures):
        raise Bad("control character in a note")
    body = BODY.fullmatch(text)
    if not body:
        raise Bad("the note is no checkpoint")
    result = Checkpoint(body[1], int(body[2]), decode64(body[3]))
    if len(result.root) != 32:
        raise Bad("the root is not 32 bytes long")
    own = key.for_origin(result.origin)
    if not own:
        raise Bad(f"the origin {result.origin} is not the key's")
    signed = False
    for line in signatures.split("\n")[:-1]:
        match = SIGNATURE.fullmatch(line)
        if not match:
            raise Bad("bad signature line")
        blob = decode64(match[2])
        if match[1] != own.name or blob[:4] != own.id:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(own.public).verify(blob[4:], text.encode())
        except InvalidSignature:
            raise Bad("the signature is wrong") from None
        signed = True
    if not signed:
        raise Unsigned("not signed by the known key")
    return result


def older_checkpoint(note, key, former):
    """The same, where a former key may have signed instead; also whether `key` has."""
    try:
        return checkpoint(note, key), True
    except Unsigned:
        for each in former:
            try:
                return checkpoint(note, each), False
            except Unsigned:
                pass
        raise
