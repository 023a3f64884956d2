//! The stamp as a key, with a hash that costs one multiplication.

use std::hash::{Hash, Hasher};

use crate::header::Stamp;

/// A stamp, hashed as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(Stamp);

impl Key {
    pub(super) const fn of(stamp: Stamp) -> Self {
        Self(stamp)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Stamp { sec, msec, serial } = self.0;
        state.write_u64(sec.wrapping_mul(1000).wrapping_add(u64::from(msec)).rotate_left(32) ^ u64::from(serial));
    }
}

/// Folded multiplication. Keys come from the kernel alone and their number is limited, so that
/// no defence against chosen keys is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
