//! The code that is checked in is the one that the `.proto` files make.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

/// Set this variable to write the files instead of comparing them.
const WRITE: &str = "AUDITMON_GENERATE";

#[test]
fn generated_code_is_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile([here.join("immudb/schema.proto")], [here]).unwrap();
    prost_build::Config::new()
        .out_dir(out.path())
        .format(true)
        .compile_fds(files)
        .unwrap();
    let made = std::fs::read_to_string(out.path().join("immudb.schema.rs")).unwrap();
    let path = here.join("src/immudb.rs");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        made == kept,
        "src/immudb.rs is not what immudb/schema.proto makes; run this test with {WRITE}=1"
    );
}
