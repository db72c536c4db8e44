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
const BUFFER_BYTES: usize = 64 << 10;

pub(super) type Reader = BufReader<Box<dyn Read + Send>>;

pub(super) struct Input {
    reader: Reader,
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
        Ok(Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            consumed,
            total,
        })
    }

    /// The first byte that is no blank, as far as it is in the first buffer.
    pub(super) fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let start = self.reader.fill_buf()?;
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        Ok(start.iter().copied().find(|b| !b.is_ascii_whitespace()))
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
