//! What the page is dressed in: one style sheet, in the binary.

use std::sync::LazyLock;

/// The style sheet.
pub(crate) const STYLE: &str = include_str!("../assets/style.css");

/// Name of the style sheet; another text has another name, so that browsers may keep it for ever.
pub(crate) static STYLE_NAME: LazyLock<String> = LazyLock::new(|| format!("style-{:016x}.css", fnv(STYLE.as_bytes())));

/// Its address.
pub(crate) static STYLE_PATH: LazyLock<String> = LazyLock::new(|| format!("/static/{}", *STYLE_NAME));

/// FNV-1a: tells versions apart, no more is needed.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
