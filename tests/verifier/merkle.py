"""The Merkle tree of RFC 6962 with SHA-256."""
import hashlib


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: its perfect subtrees from left to right."""

    def __init__(self, on_node=None):
        self.size = 0
        self.nodes = []     # (height, hash)
        self.on_node = on_node      # called with (height, index at that height, hash)

    def copy(self):
        other = Frontier()
        other.size, other.nodes = self.size, list(self.nodes)
        return other

    def append(self, hash_, height=0):
        """Adds a perfect subtree; the size must be a multiple of its width."""
        while True:
            if self.on_node and height % 8 == 0:
                self.on_node(height, (self.size >> height), hash_)
            if not self.nodes or self.nodes[-1][0] != height:
                break
            left = self.nodes.pop()[1]
            self.size -= 1 << height
            hash_, height = node_hash(left, hash_), height + 1
        self.nodes.append((height, hash_))
        self.size += 1 << height

    def root(self):
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        root = self.nodes[-1][1]
        for _, left in reversed(self.nodes[:-1]):
            root = node_hash(left, root)
        return root


def fold(hashes):
    """The root of a perfect subtree from the hashes of one of its levels."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2])]
    return hashes[0]


def subtrees(first, end):
    """Heights of the maximal aligned subtrees of first..end (exclusive), from left to right."""
    while first < end:
        height = (end - first).bit_length() - 1
        if first:
            height = min(height, (first & -first).bit_length() - 1)
        yield height
        first += 1 << height


def inclusion_holds(index, size, path, hash_, root):
    if index >= size:
        return False
    node, last = index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            hash_ = node_hash(sibling, hash_)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            hash_ = node_hash(hash_, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hash_ == root
