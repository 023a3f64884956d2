//! Tiles: on disk soon, and never more than so many in memory.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use auditmon_journal::bare::{Core, Submission, Time};
use auditmon_journal::format::Kind;
use auditmon_journal::{Item, Linger, Reader, RealFs, Records, open};
use auditmon_merkle::{Hash, TILE_BYTES, TileId, Tiler, leaf_hash};
use common::{Journal, options, prefix, wait_for};

/// A frame of events as short as can be.
fn frame(count: u32) -> Records {
    let mut records = Records::new();
    let prefix = prefix(Kind::Application);
    for _ in 0..count {
        records.push(&prefix, [2; 16], |out| out.push(b'e')).unwrap();
    }
    records
}

/// The full tiles of the tree over all that a reader sees.
fn full_tiles(mut reader: Reader) -> Vec<(TileId, Box<[u8; TILE_BYTES]>)> {
    let mut tiler = Tiler::new();
    let mut tiles = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        let Item::Records(batch) = item else {
            panic!("{item:?}");
        };
        for entry in batch.iter() {
            tiler.push(leaf_hash(&entry.record.leaf())).unwrap();
            tiles.extend(tiler.filled().map(|(tile, bytes)| (tile, Box::new(*bytes))));
        }
    }
    tiles
}

fn on_disk(dir: &Path, tile: TileId) -> Option<Vec<u8>> {
    std::fs::read(dir.join("journal/1").join(tile.to_string())).ok()
}

#[test]
fn tiles_are_written_before_their_segment_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut roomy = options(dir.path());
    roomy.segment_size = 64 << 20;
    let journal = Journal::with(RealFs, roomy);
    for _ in 0..4 {
        journal.send(frame(10_000), Linger::NONE).recv().unwrap().unwrap();
    }
    let full = full_tiles(journal.handle.reader(0));
    assert_eq!(full.len(), 156);
    wait_for("most of them are on disk", || {
        full.iter()
            .filter(|(tile, _)| on_disk(dir.path(), *tile).is_some())
            .count()
            >= 128
    });
    wait_for("covered", || {
        journal.handle.checkpoint().is_some_and(|newest| newest.size == 40_000)
    });
    for (tile, bytes) in &full {
        let given = journal.handle.tile(*tile).unwrap().unwrap();
        assert!(given == bytes[..], "{tile}");
        let stored = on_disk(dir.path(), *tile);
        assert!(stored.is_none_or(|stored| stored == bytes[..]), "{tile}");
    }
    journal.close();
}

fn commit(core: &mut Core, now: Time) {
    let submission = Submission {
        records: frame(10_000),
        done: Box::new(|fate| assert!(fate.is_ok())),
        since_ns: 0,
        own: false,
    };
    core.commit([submission], now);
}

#[test]
fn where_no_disk_takes_them_memory_has_its_bound_and_sealing_makes_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path());
    small.segment_size = 2 << 20;
    let (writer, _) = open(RealFs, small).unwrap();
    let mut core = writer.into_core();
    let in_the_way = dir.path().join("journal/1/tile");
    std::fs::write(&in_the_way, "").unwrap();
    let mut now = Time {
        wall_ns: common::now_ns(),
        mono_ns: 1,
    };
    let mut most = 0;
    for _ in 0..20 {
        commit(&mut core, now);
        core.seal_all(now);
        most = most.max(core.tiles_in_memory());
    }
    assert!((200..=300).contains(&most), "2 MiB, here {most} tiles");
    assert_eq!(core.counts().sealed, 0, "a sealed segment has its tiles");
    std::fs::remove_file(&in_the_way).unwrap();
    now.mono_ns += 60_000_000_000;
    core.seal_all(now);
    assert!(core.counts().sealed > 2);
    let sealed = std::fs::read_dir(dir.path().join("journal/1/seg")).unwrap();
    let newest = sealed
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".leaf")?
                .parse::<u64>()
                .ok()
        })
        .max()
        .unwrap();
    let mut checked = 0;
    for (tile, bytes) in full_tiles(core.reader(0)) {
        if tile.leaves().end <= newest {
            assert!(
                on_disk(dir.path(), tile).is_some_and(|stored| stored == bytes[..]),
                "{tile}"
            );
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
    let newest = Hash::from(core.newest_checkpoint().map_or([0; 32], |newest| newest.root));
    core.close(now);
    assert!(
        core.newest_checkpoint()
            .is_some_and(|last| Hash::from(last.root) != newest)
    );
}
