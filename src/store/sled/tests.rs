//! What only the sled engine can suffer: kills, damage, full disks, another process.

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
fn a_kill_inside_open_loses_nothing() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 10);
    bed.engine().put(Space::Catalog, b"a", Some(b"b")).unwrap();
    // From the log into the snapshot: the log is empty now, as in the midst of an open.
    bed.restart();
    bed.tamper(|dir| {
        for log in metadata(dir, "log_") {
            fs::remove_file(log).unwrap();
        }
    });
    assert_eq!(assert_whole(&*bed.ring()).tail, 10);
    bed.restart();
    assert_eq!(assert_whole(&*bed.ring()).tail, 10);
    assert!(bed.engine().get(Space::Catalog, b"a").unwrap().is_some());
}

#[test]
fn a_cookie_cut_short_is_written_anew() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 3);
    bed.tamper(|dir| fs::write(dir.join("sled/durability_cookie"), []).unwrap());
    assert_eq!(assert_whole(&*bed.ring()).tail, 3);
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
fn a_newer_format_is_refused() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 1);
    let seam = &bed.sled().core.seam;
    let mut block = seam.get_block(&key(0)).unwrap().unwrap().to_vec();
    block[4] = 2;
    seam.put_block(key(0), block).unwrap();
    bed.restart();
    let spec = crate::store::RingSpec {
        feed: FEED,
        epoch: 99,
        max_bytes: MIB,
        visibility: Visibility::Durable,
    };
    let ring = bed.engine().open_ring(spec);
    assert!(matches!(
        ring,
        Err(StoreError::NewerFormat { found: 2, .. })
    ));
    bed.stop();
    fs::write(bed.dir().join("FORMAT"), "ringfeed 3\n").unwrap();
    let engine = SledEngine::open(options(bed.dir()));
    assert!(matches!(
        engine,
        Err(StoreError::NewerFormat {
            found: 3,
            known: 2,
            ..
        })
    ));
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
fn a_damaged_block_is_a_gap_and_the_ring_goes_on() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    let (records, gaps) = drain(&*ring, 0);
    let bad: u64 = gaps.iter().map(|gap| gap.span.len()).sum();
    assert_eq!(records.len() as u64 + bad, 20);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Corrupt));
    assert!(
        gaps.iter()
            .any(|gap| gap.span.contains(4) && gap.count == Some(gap.span.len()))
    );
    // Over its slot and around.
    for round in 30..60 {
        append(&*ring, 10, 10_000, round);
        bed.flush();
    }
    assert_whole(&*ring);
    drop(ring);
    bed.restart();
    assert_whole(&*bed.ring());
}

#[test]
fn damage_met_while_something_is_staged_loses_nothing_else() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.engine().put(Space::Catalog, b"a", Some(b"b")).unwrap();
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    append(&*ring, 1, 10, 30);
    bed.engine().put(Space::Catalog, b"c", Some(b"d")).unwrap();
    assert!(!matches!(
        ring.read(4, 1),
        Ok(crate::store::Read::Records(_))
    ));
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!((records.len(), gaps.len()), (19, 1));
    bed.flush();
    drop(ring);
    bed.cut_power();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
    let small = bed.engine().scan(Space::Catalog, b"").unwrap();
    assert_eq!(small.len(), 2);
}

#[test]
fn a_damaged_slot_is_sound_again_once_it_is_overwritten() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.tamper(|dir| flip(dir, 4));
    let ring = bed.ring();
    assert_eq!(drain(&*ring, 0).1.len(), 1);
    assert!(!suspects(bed.dir()).is_empty());
    for round in 30..60 {
        append(&*ring, 10, 10_000, round);
        bed.flush();
    }
    assert_whole(&*ring);
    assert_eq!(suspects(bed.dir()), "");
}

fn suspects(dir: &Path) -> String {
    fs::read_to_string(dir.join("bad-slots")).unwrap()
}

#[test]
fn a_block_in_a_foreign_slot_is_not_served() {
    let bed = SledBed::new();
    let ring = bed.ring();
    fill(&*ring, 20);
    let seam = &bed.sled().core.seam;
    let second = seam.get_block(&key(1)).unwrap().unwrap();
    seam.put_block(key(3), second.to_vec()).unwrap();
    let mut flipped = seam.get_block(&key(5)).unwrap().unwrap().to_vec();
    flipped[40_000] ^= 1;
    seam.put_block(key(5), flipped).unwrap();
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!(records.len(), 16);
    let corrupt = |from| gap(from, from + 2, Some(2), GapReason::Corrupt);
    assert_eq!(gaps, [corrupt(6), corrupt(10)]);
    assert_eq!(offsets(&*ring, 12).len(), 8);
}

#[test]
fn offsets_of_a_damaged_tail_block_are_not_used_again() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 9);
    let seam = &bed.sled().core.seam;
    let mut tail = seam.get_block(&key(4)).unwrap().unwrap().to_vec();
    tail[100] ^= 1;
    seam.put_block(key(4), tail).unwrap();
    bed.restart();
    let ring = bed.ring();
    assert!(ring.bounds().tail > 9);
    append(&*ring, 1, 10, 50);
    let (records, gaps) = drain(&*ring, 0);
    assert_eq!((records.len(), gaps.len()), (9, 1));
    assert_eq!((gaps[0].span.from, gaps[0].reason), (8, GapReason::Lost));
    drop(ring);
    bed.restart();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
}

/// A block that cannot be read takes the database with it, again and again as others are met:
/// nobody beside it notices.
#[test]
fn damage_is_met_by_readers_while_others_write() {
    let mut bed = SledBed::new();
    let ring = bed.open(FEED, 8 * MIB, Visibility::Durable);
    fill(&*ring, 90);
    drop(ring);
    bed.tamper(|dir| (10..80).step_by(20).for_each(|i| flip(dir, i)));
    let ring = bed.ring();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for time in 100..150 {
                append(&*ring, 2, 10_000, time);
                bed.flush();
            }
        });
        let mut reading = Vec::new();
        for _ in 0..3 {
            reading.push(scope.spawn(|| drain(&*ring, 0)));
        }
        for reading in reading {
            let (records, gaps) = reading.join().unwrap();
            assert!(records.len() >= 82, "{} of 90", records.len());
            assert_eq!(gaps.len(), 4);
        }
        writing.join().unwrap();
    });
    let (records, gaps) = drain(&*ring, 0);
    let bad: u64 = gaps.iter().map(|gap| gap.span.len()).sum();
    assert_eq!((records.len() as u64, gaps.len()), (190 - bad, 4));
    drop(ring);
    bed.cut_power();
    assert_eq!(drain(&*bed.ring(), 0), (records, gaps));
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

fn feeds(bed: &SledBed, count: u32) -> Vec<std::sync::Arc<dyn Ring>> {
    (1..=count)
        .map(|feed| bed.open(crate::model::FeedId(feed), MIB, Visibility::Durable))
        .collect()
}

/// A round: one record for each feed and one flush, which must be one.
fn round(bed: &SledBed, rings: &[std::sync::Arc<dyn Ring>], time: i64) {
    for ring in rings {
        append(&**ring, 1, 112, time);
    }
    let before = bed.sled().core.seam.flushes();
    bed.flush();
    assert_eq!(bed.sled().core.seam.flushes(), before + 1);
}

#[test]
fn a_thousand_slow_feeds_share_a_flush_and_write_little() {
    const FEEDS: u32 = 1_000;
    const ROUNDS: u32 = 300;
    let mut bed = SledBed::new();
    let rings = feeds(&bed, FEEDS);
    bed.flush();
    let before = bed.engine().io().block_bytes_written;
    for time in 0..ROUNDS {
        round(&bed, &rings, time.into());
    }
    let written = bed.engine().io().block_bytes_written - before;
    let records = u64::from(FEEDS * ROUNDS) * 112;
    assert!(written > 2 * records, "blocks were folded: {written}");
    assert!(written <= 10 * records, "{written} bytes for {records}");
    eprintln!(
        "{:.1} bytes written per byte",
        written as f64 / records as f64
    );
    drop(rings);
    bed.cut_power();
    let opened = std::time::Instant::now();
    for ring in feeds(&bed, FEEDS) {
        assert_eq!(ring.bounds().tail, u64::from(ROUNDS));
        assert_eq!(offsets(&*ring, u64::from(ROUNDS) - 2).len(), 2);
    }
    eprintln!("opened in {:?}", opened.elapsed());
}

#[test]
fn a_lone_record_costs_hundreds_of_bytes() {
    let bed = SledBed::new();
    let ring = bed.ring();
    append(&*ring, 300, 100, 1);
    bed.flush();
    let before = bed.engine().io().block_bytes_written;
    append(&*ring, 1, 112, 2);
    bed.flush();
    let written = bed.engine().io().block_bytes_written - before;
    assert!(written < 1_000, "{written}");
}

/// Rounds of feeds of all paces, cut at each flush: some blocks are in notes, some in slots, some
/// in both.
#[test]
fn a_cut_between_any_two_flushes_loses_nothing() {
    let mut bed = SledBed::new();
    for time in 0..24_usize {
        let rings = feeds(&bed, 6);
        for (pace, ring) in rings.iter().enumerate() {
            append(&**ring, 1 + pace * pace * 4, 200 + pace * 100, time as i64);
        }
        bed.flush();
        let tails: Vec<_> = rings.iter().map(|ring| ring.bounds().tail).collect();
        append(&*rings[time % 6], 40, 300, time as i64);
        drop(rings);
        if time % 3 == 0 {
            bed.restart();
            continue;
        }
        bed.cut_power();
        for (ring, tail) in feeds(&bed, 6).iter().zip(tails) {
            assert_eq!(assert_whole(&**ring).tail, tail);
        }
    }
}

#[test]
fn a_damaged_note_is_a_loss_in_every_ring_and_no_offset_is_used_twice() {
    let mut bed = SledBed::new();
    let rings = feeds(&bed, 3);
    for ring in &rings {
        append(&**ring, 70, 1_000, 1);
    }
    bed.flush();
    for ring in &rings {
        let records = [NewRecord {
            bytes: vec![8; 2_000].into(),
            event_time: 0,
        }];
        put(&**ring, &records, &[], 2, Unit::Record);
    }
    bed.flush();
    drop(rings);
    bed.stop();
    flip(bed.dir(), 7);
    assert!(!check(bed.dir()).unwrap().is_sound());
    bed.start();
    let mut tails = Vec::new();
    for ring in feeds(&bed, 3) {
        let bounds = ring.bounds();
        assert!(bounds.tail > 71);
        append(&*ring, 1, 10, 3);
        let (records, gaps) = drain(&*ring, 0);
        assert!(records.len() >= 63, "{}", records.len());
        assert_eq!((gaps.len(), gaps[0].reason), (1, GapReason::Lost));
        tails.push(bounds.tail + 1);
    }
    bed.restart();
    assert!(check_again(&mut bed));
    let after: Vec<_> = feeds(&bed, 3)
        .iter()
        .map(|ring| ring.bounds().tail)
        .collect();
    assert_eq!(after, tails);
}

fn check_again(bed: &mut SledBed) -> bool {
    bed.stop();
    let sound = check(bed.dir()).unwrap().is_sound();
    bed.start();
    sound
}

#[test]
fn check_finds_what_is_wrong() {
    let mut bed = SledBed::new();
    fill(&*bed.ring(), 20);
    bed.stop();
    let sound = check(bed.dir()).unwrap();
    assert!(sound.is_sound() && sound.logs.iter().any(|log| log.frames > 0));
    let ring = &sound.rings[0];
    assert_eq!(
        (ring.feed, ring.epoch, ring.head, ring.tail),
        (FEED, 99, 0, 20)
    );
    assert_eq!((ring.blocks, ring.records), (10, 20));
    flip(bed.dir(), 4);
    let bad = check(bed.dir()).unwrap();
    assert!(!bad.is_sound() && !bad.rings[0].bad.is_empty());
    bed.start();
    assert!(!drain(&*bed.ring(), 0).1.is_empty());
    bed.stop();
    let snapshot = metadata(bed.dir(), "snapshot_").pop().unwrap();
    let file = OpenOptions::new().write(true).open(snapshot).unwrap();
    file.write_all_at(&[0xEE, 0xEE], 20).unwrap();
    let bad = check(bed.dir()).unwrap();
    assert!(!bad.is_sound() && bad.rings.is_empty());
    assert_eq!(
        bad.logs
            .iter()
            .filter(|log| log.damaged_at == Some(0))
            .count(),
        1
    );
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
