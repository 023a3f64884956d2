"""Proofs of single events, and the files a journal can be held against."""
import re
from typing import NamedTuple

import note
from merkle import inclusion_holds
from report import Bad, CannotCheck
from segment import event_id, proof_leaf

PROOF = re.compile(
    r"auditmon-proof/v1\nevent ([^\n]+)\nsalt ([^\n]+)\nleaf ([^\n]+)\n\n"
    r"c2sp\.org/tlog-proof@v1\nindex (0|[1-9][0-9]{0,19})\n((?:[^\n]+\n)*)\n(.+)", re.DOTALL)


class Proof(NamedTuple):
    index: int
    leaf: bytes
    checkpoint: note.Checkpoint

    @property
    def event(self):
        return event_id(self.leaf)


def check(data, key):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Bad("not UTF-8") from None
    match = PROOF.fullmatch(text)
    if not match:
        raise Bad("not a proof")
    payload, salt, leaf = map(note.decode64, match.groups()[:3])
    path = [note.decode64(line) for line in match[5].split("\n")[:-1]]
    notes, rest = note.notes(match[6].encode())
    if rest or len(notes) != 1:
        raise Bad("the proof does not end with one checkpoint")
    checkpoint = note.checkpoint(notes[0], key)
    hash_ = proof_leaf(leaf, salt, payload)
    if any(len(sibling) != 32 for sibling in path):
        raise Bad("a hash is not 32 bytes long")
    if not inclusion_holds(int(match[4]), checkpoint.size, path, hash_, checkpoint.root):
        raise Bad("the path does not lead to the checkpoint's root")
    return Proof(int(match[4]), leaf, checkpoint)


def split(data):
    return re.split(rb"(?m)^---\n", data)


def against(data, key):
    """(checkpoints, proofs) of a file that holds either."""
    if data.startswith(b"auditmon-proof/"):
        proofs = [check(each, key) for each in split(data)]
        return [proof.checkpoint for proof in proofs], proofs
    notes, rest = note.notes(data)
    if rest or not notes:
        raise CannotCheck("the file to hold the journal against is neither checkpoint nor proof")
    return [note.checkpoint(each, key) for each in notes], []
