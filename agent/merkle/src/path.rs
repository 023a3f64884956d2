//! Which siblings a proof consists of: the one thing that making and verifying share.

/// On which side of the path a sibling stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// The sibling is a perfect subtree.
    Left,
    /// The sibling reaches to the right edge of the tree if it is the last of the path.
    Right,
}

/// The way from a perfect subtree up to the root of a tree.
///
/// Source: RFC 6962 §2.1.1. Below the level where the way meets the tree's
/// right edge every node has a sibling; above, only right children have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// A leaf below the subtree.
    index: u64,
    /// Level of the subtree.
    level: u32,
    /// Level on which the way and the right edge become one.
    meet: u32,
}

impl Path {
    /// The way from the node on `level` above leaf `index`, which must be
    /// wholly within a tree of `size` leaves.
    pub(crate) fn new(level: u32, index: u64, size: u64) -> Self {
        debug_assert!(index < size && level < 64, "leaf {index} of {size}");
        let meet = u64::BITS - (index ^ (size - 1)).leading_zeros();
        Self {
            index,
            level,
            // On the right edge itself they are one from the start.
            meet: meet.max(level),
        }
    }

    /// Level above which all siblings are to the left.
    pub(crate) fn meet(self) -> u32 {
        self.meet
    }

    /// Siblings, lowest first, each with its level.
    pub(crate) fn siblings(self) -> impl Iterator<Item = (u32, Side)> {
        let Self { index, level, meet } = self;
        (level..u64::BITS).filter_map(move |level| match (index >> level & 1, level < meet) {
            (1, _) => Some((level, Side::Left)),
            (_, true) => Some((level, Side::Right)),
            (_, false) => None,
        })
    }

    /// Number of siblings, at most 63.
    pub(crate) fn len(self) -> usize {
        let above = self.index.checked_shr(self.meet).unwrap_or(0);
        (self.meet - self.level + above.count_ones()) as usize
    }
}
