//! Verifying sled's metadata files without sled: a flipped byte in one of them goes unnoticed when
//! it opens, and leaves slots that hold other slots' blocks.
//!
//! ```text
//! frame: length 6 · crc of it 2 · payload · crc32 of all before, xor 0xAF, 4    little endian
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One of sled's metadata files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    pub path: PathBuf,
    pub frames: u64,
    pub bytes: u64,
    /// The last write was cut off, which is what a crash leaves, and no loss.
    pub torn: bool,
    /// The offset of a frame that fails its checks. What is behind it, and was durable, is lost
    /// as soon as the database is opened.
    pub damaged_at: Option<u64>,
}

pub(super) fn verify(metadata: &Path) -> io::Result<Vec<LogReport>> {
    let mut reports = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(metadata)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let ours = name.starts_with("log_") || name.starts_with("snapshot_");
        // sled throws away what was not renamed.
        if ours && !name.ends_with(".tmp") {
            let bytes = fs::read(&path)?;
            reports.push(walk(path, &bytes));
        }
    }
    Ok(reports)
}

fn walk(path: PathBuf, bytes: &[u8]) -> LogReport {
    let mut report = LogReport {
        path,
        frames: 0,
        bytes: bytes.len() as u64,
        torn: false,
        damaged_at: None,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        match frame(rest) {
            Frame::Good { len } => {
                report.frames += 1;
                rest = rest.get(len..).unwrap_or_default();
            }
            Frame::Torn => {
                report.torn = true;
                break;
            }
            Frame::Damaged => {
                report.damaged_at = Some((bytes.len() - rest.len()) as u64);
                break;
            }
        }
    }
    report
}

enum Frame {
    Good { len: usize },
    Torn,
    Damaged,
}

fn frame(bytes: &[u8]) -> Frame {
    let Some((prefix, _)) = bytes.split_first_chunk::<8>() else {
        return Frame::Torn;
    };
    let [a, b, c, d, e, f, crc_low, crc_high] = *prefix;
    let [low, high, ..] = crc32fast::hash(&[a, b, c, d, e, f]).to_le_bytes();
    if [low, high] != [crc_low, crc_high] {
        return Frame::Damaged;
    }
    let len = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let Some(end) = usize::try_from(len).ok().and_then(|len| len.checked_add(8)) else {
        return Frame::Damaged;
    };
    let (Some(covered), Some(crc)) = (bytes.get(..end), bytes.get(end..end + 4)) else {
        return Frame::Torn;
    };
    let expected = (crc32fast::hash(covered) ^ 0xAF).to_le_bytes();
    if expected != *crc {
        return Frame::Damaged;
    }
    Frame::Good { len: end + 4 }
}
