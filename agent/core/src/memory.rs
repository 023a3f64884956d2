//! Memory for what is large and gone soon, such as a request's body.

/// From this size on a buffer is mapped. Bodies of 1 MiB that 64 clients send were kept by the heaps of several threads
/// after they were gone. Mapping costs a fault for each page: a seventh of what is done with a thousand usual events, which
/// therefore stay below.
const LARGE: usize = 1 << 20;
/// glibc's allocator maps what is larger than this, and nothing smaller for sure.
const MAPPED: usize = (32 << 20) + 1;

/// An empty buffer with room for `bytes`, which goes back to the system when it is dropped.
///
/// glibc's allocator maps a large buffer the first time. When that is dropped it takes buffers of this size for usual:
/// from then on it cuts them out of its heaps, of which each thread has its own, and each keeps twice this size when
/// it is free. Some bodies of 15 MB, taken by one thread and the other, so hold 100 MB for good. What is larger than
/// 32 MiB it always maps and never learns from, so a large buffer is given addresses for as much; memory it takes
/// only where it is written to.
#[must_use]
pub fn buffer(bytes: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    // Where addresses are scarce, by a limit or strict accounting, it does with what it needs.
    if bytes < LARGE || buffer.try_reserve_exact(bytes.max(MAPPED)).is_err() {
        buffer.reserve_exact(bytes);
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_as_asked_for_and_large_ones_are_mapped() {
        assert_eq!(buffer(0).capacity(), 0);
        assert_eq!(buffer(100_000).capacity(), 100_000);
        assert!(buffer(LARGE).capacity() >= MAPPED);
        assert!(buffer(MAPPED + 1).capacity() > MAPPED);
    }
}
