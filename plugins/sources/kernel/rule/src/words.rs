//! Splitting a line into words, as auditctl does for files.

/// The words of a line: split at spaces only, no quotes; a backslash keeps
/// the space or backslash behind it. Empty words do not occur.
pub(crate) fn split(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(next @ (b' ' | b'\\'))) => {
                word.push(*next);
                bytes.next();
            }
            (b' ', _) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(byte),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
