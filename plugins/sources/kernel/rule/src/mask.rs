//! The syscall mask of a rule.

use crate::layout::MASK_WORDS;

/// Bits of the last word that name classes of calls, not calls. The kernel
/// expands and clears them, so a mask sent with all bits set comes back
/// without them.
const CLASS_BITS: u32 = 0xffff_0000;

/// Highest call number that is a call and no class bit, plus one.
const CALLS: u32 = 2032;

/// A set of system call (or io_uring operation) numbers, 0 to 2031.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mask([u32; MASK_WORDS]);

impl Mask {
    /// No call.
    pub const NONE: Mask = Mask([0; MASK_WORDS]);
    /// Every call, as it is sent: class bits set too.
    pub const ALL: Mask = Mask([u32::MAX; MASK_WORDS]);

    pub(crate) const fn from_words(words: [u32; MASK_WORDS]) -> Mask {
        Mask(words)
    }

    pub(crate) const fn words(&self) -> &[u32; MASK_WORDS] {
        &self.0
    }

    /// Adds one call. Returns whether `number` is in range; a number that is
    /// not changes nothing.
    #[must_use]
    pub fn insert(&mut self, number: u32) -> bool {
        if number >= CALLS {
            return false;
        }
        match self.0.get_mut((number / 32) as usize) {
            Some(word) => *word |= 1 << (number % 32),
            None => return false,
        }
        true
    }

    /// Whether the call is in the set.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        number < CALLS
            && self
                .0
                .get((number / 32) as usize)
                .is_some_and(|word| word & (1 << (number % 32)) != 0)
    }

    /// Whether this stands for every call, class bits ignored.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.normalised() == Mask::ALL.normalised()
    }

    /// Whether no call is in the set, class bits ignored.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.normalised() == Mask::NONE
    }

    /// The set without class bits: the form in which masks are compared.
    #[must_use]
    pub fn normalised(&self) -> Mask {
        let mut words = self.0;
        if let Some(last) = words.last_mut() {
            *last &= !CLASS_BITS;
        }
        Mask(words)
    }

    /// The calls in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..CALLS).filter(|number| self.contains(*number))
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() {
            return f.write_str("Mask(all)");
        }
        f.write_str("Mask")?;
        f.debug_set().entries(self.iter()).finish()
    }
}
