//! What only the sled engine can suffer: kills, damage, full disks, another process.

mod damage;
mod slow;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    model::{Frames, GapReason, NewRecord, Visibility},
    store::{Append, Ring, Space, StoreError, Unit, conformance::bed::*},
};

use super::{SledEngine, check, keys::SlotKey, options::SledOptions};

/// `count` records of 30,000 bytes, two to a block, each with its number all over it.
fn fill(ring: &dyn Ring, count: u8) {
    for i in 0..count {
        let records = [NewRecord {
            bytes: vec![i + 1; 30_000].into(),
            event_time: 0,
        }];
        let ingest_time = i64::from(i);
        ring.append(Append {
            records: Frames::of(&records),
            ingest_time,
            marks: &[],
            unit: Unit::Record,
        })
        .unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    files
}

fn metadata(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = files(&dir.join("sled/metadata"));
    found.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(prefix)
    });
    found
}

/// Flips one byte of record `i` in the slabs, wherever copies of it lie.
fn flip(dir: &Path, i: u8) {
    let mut flipped = 0;
    for path in files(&dir.join("sled/slabs")) {
        let bytes = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut last = 0;
        for (at, _) in bytes
            .chunks(500)
            .enumerate()
            .filter(|(_, c)| *c == [i + 1; 500])
        {
            if at != last + 1 {
                file.write_all_at(&[0xEE], at as u64 * 500 + 7).unwrap();
                flipped += 1;
            }
            last = at;
        }
    }
    assert!(flipped > 0, "record {i} is not in the slabs");
}

fn size(dir: &Path) -> u64 {
    let entries = files(dir).into_iter();
    entries
        .map(|path| {
            if path.is_dir() {
                size(&path)
            } else {
                fs::metadata(path).unwrap().len()
            }
        })
        .sum()
}

fn key(slot: u64) -> SlotKey {
    SlotKey {
        feed: FEED,
        generation: 0,
        slot,
    }
}

#[test]
fn a_second_process_is_locked_out() {
    let bed = SledBed::new();
    fill(&*bed.ring(), 1);
    let second = SledEngine::open(options(bed.dir()));
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    assert!(matches!(check(bed.dir()), Err(StoreError::Locked { .. })));
}

#[test]
fn an_older_format_is_refused_untouched_and_says_what_to_do() {
    let dir = tempfile::TempDir::new().unwrap();
    fs::write(dir.path().join("FORMAT"), "ringfeed 1\n").unwrap();
    for refused in [
        SledEngine::open(options(dir.path())).map(drop),
        check(dir.path()).map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(
            refused,
            StoreError::OlderFormat {
                found: 1,
                known: 2,
                ..
            }
        ));
        assert!(refused.to_string().contains("empty directory"));
    }
    assert!(!dir.path().join("sled").exists());
}

#[test]
fn writes_are_refused_before_the_disk_is_full() {
    let bed = SledBed::with(|options| options.reserve_bytes = u64::MAX / 2);
    let ring = bed.ring();
    let records = [record(10, 0)];
    let append = Append {
        records: Frames::of(&records),
        ingest_time: 0,
        marks: &[],
        unit: Unit::Record,
    };
    assert!(matches!(
        ring.append(append),
        Err(StoreError::DiskFull { .. })
    ));
    let put = bed.engine().put(Space::Catalog, b"a", Some(b"b"));
    assert!(matches!(put, Err(StoreError::DiskFull { .. })));
    assert_eq!(ring.bounds().tail, 0);
    bed.flush();
}

#[test]
fn open_reads_few_bytes() {
    let mut bed = SledBed::new();
    let ring = bed.open(FEED, 32 * MIB, Visibility::Durable);
    for _ in 0..20 {
        append(&*ring, 200, 10_000, 1);
        bed.flush();
    }
    drop(ring);
    bed.restart();
    let bounds = bed.ring().bounds();
    assert!(bounds.bytes > 24 * MIB);
    let read = bed.engine().io().block_bytes_read;
    assert!(read < 16 * 65_000, "{read} bytes were read");
    drain(&*bed.ring(), bounds.tail - 1);
    let more = bed.engine().io().block_bytes_read - read;
    assert!(
        more <= 2 * 65_000,
        "{more} bytes were read for the last record"
    );
}

#[test]
fn a_small_ring_stays_small_on_disk() {
    let bed = SledBed::new();
    let ring = bed.ring();
    for round in 0..640 {
        append(&*ring, 10, 10_000, round);
        bed.flush();
    }
    let size = size(bed.dir());
    assert!(size < 5 * MIB / 2, "{size} bytes for a ring of 1 MiB");
}

#[test]
fn readers_see_whole_blocks_while_they_are_overwritten() {
    let bed = SledBed::with(|options| options.cache_bytes = 4 * 65_536);
    let ring = bed.ring();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for time in 0..200 {
                append(&*ring, 20, 10_000, time);
                bed.flush();
            }
        });
        while !writing.is_finished() {
            let bounds = ring.bounds();
            let (records, gaps) = drain(&*ring, bounds.head);
            let evicted = gaps.iter().all(|gap| gap.reason == GapReason::Evicted);
            assert!(evicted, "{bounds:?}: {gaps:?}");
            assert!(records.len() as u64 >= bounds.tail - bounds.head || !gaps.is_empty());
        }
    });
    assert_eq!(assert_whole(&*ring).tail, 4_000);
}

/// Freed slots are taken again, whatever the sizes: blocks, entries, whole rings.
#[test]
fn what_is_deleted_and_written_anew_takes_no_more_room() {
    let mut bed = SledBed::new();
    let mut sizes = Vec::new();
    for round in 0..30_usize {
        for feed in 1..4 {
            let ring = bed.open(crate::model::FeedId(feed), MIB, Visibility::Durable);
            append(&*ring, 70, 10_000, 1);
            bed.flush();
        }
        for key in 0..200_u8 {
            let value = vec![key; round * 37 % 900];
            bed.engine()
                .put(Space::Latest, &[key], Some(&value))
                .unwrap();
        }
        bed.flush();
        for feed in 1..4 {
            bed.engine()
                .delete_ring(crate::model::FeedId(feed))
                .unwrap();
        }
        for key in 0..200_u8 {
            bed.engine().put(Space::Latest, &[key], None).unwrap();
        }
        bed.flush();
        if round % 10 == 9 {
            sizes.push(size(bed.dir()));
            bed.restart();
        }
    }
    assert!(sizes[2] <= sizes[0] + MIB / 4, "{sizes:?}");
    assert_eq!(bed.engine().scan(Space::Latest, b"").unwrap(), []);
}

#[test]
fn check_says_what_is_no_data_directory() {
    let dir = tempfile::TempDir::new().unwrap();
    let found = check(dir.path());
    assert!(matches!(&found, Err(StoreError::Damaged { detail, .. }) if detail.contains("FORMAT")));
    assert_eq!(files(dir.path()).len(), 0);
    assert!(matches!(
        check(&dir.path().join("none")),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(SledOptions::new(dir.path()).dir, dir.path());
}
