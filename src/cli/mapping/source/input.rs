//! Bytes of a file or stdin: counted as they are on disk, decompressed when they are gzip.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const MAX_BLANKS: usize = 4096;
const BUFFER_BYTES: usize = 64 << 10;

pub(super) type Reader = BufReader<Box<dyn Read + Send>>;

pub(super) struct Input {
    reader: Reader,
    first_byte: Option<u8>,
    consumed: Arc<AtomicU64>,
    total: Option<u64>,
}

struct Counted {
    inner: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Input {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::new(Box::new(io::stdin()), None);
        }
        let explain = || format!("cannot open {}", path.display());
        let file = File::open(path).with_context(explain)?;
        let metadata = file.metadata().with_context(explain)?;
        let total = metadata.is_file().then_some(metadata.len());
        Self::new(Box::new(file), total).with_context(explain)
    }

    pub(super) fn new(inner: Box<dyn Read + Send>, total: Option<u64>) -> anyhow::Result<Self> {
        let consumed = Arc::new(AtomicU64::new(0));
        let mut counted = Counted {
            inner,
            consumed: Arc::clone(&consumed),
        };
        let mut magic = Vec::new();
        counted
            .by_ref()
            .take(GZIP_MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(counted);
        let reader: Box<dyn Read + Send> = if is_gzip {
            Box::new(MultiGzDecoder::new(whole))
        } else {
            Box::new(whole)
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let start = start_of(&mut reader)?;
        let first_byte = start
            .last()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace());
        let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(reader));
        Ok(Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, whole),
            first_byte,
            consumed,
            total,
        })
    }

    /// The first byte that is no blank.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.first_byte
    }

    pub(super) fn take_reader(&mut self) -> Reader {
        let empty: Box<dyn Read + Send> = Box::new(io::empty());
        std::mem::replace(&mut self.reader, BufReader::with_capacity(0, empty))
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }
}

/// Reads up to the first byte that is no blank, and drops a byte order mark. Not more: on a live
/// pipe the next byte may be long in coming.
fn start_of(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    for byte in reader.bytes().take(MAX_BLANKS) {
        start.push(byte?);
        let is_blank = start.last().is_some_and(u8::is_ascii_whitespace);
        if start == BYTE_ORDER_MARK {
            start.clear();
        } else if !is_blank && !BYTE_ORDER_MARK.starts_with(&start) {
            break;
        }
    }
    Ok(start)
}
