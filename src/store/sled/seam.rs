//! The one seam to sled: open, slots, small entries, flush, open again, close. Nothing beyond this
//! file and `session` knows that it is sled.
//!
//! A `get` may never return when a metadata log was damaged unnoticed. It holds a lease then, and
//! no more than that: the database is not opened again from there on (memory grows), writes and
//! other reads go on. Whoever calls gives reads a deadline.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::RwLock;
use rustix::fs::FlockOperation;

use crate::store::{Entry, Io, Space, StoreError};

use super::{
    keys::SlotKey,
    options::SledOptions,
    session::{Lease, Session},
    suspects::Suspects,
};

const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
pub(super) const DATABASE: &str = "sled";
/// How long an open waits for reads to end: new ones wait behind it.
const QUIET: Duration = Duration::from_millis(200);
const CLOSE: Duration = Duration::from_secs(5);

/// Why a slot could not be used.
#[derive(Debug)]
pub(super) enum SlotError {
    /// This slot is damaged; others may be good.
    Unreadable(String),
    Store(StoreError),
}

impl From<StoreError> for SlotError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

pub(super) struct Seam {
    options: SledOptions,
    session: RwLock<Option<Session>>,
    suspects: Suspects,
    /// Something was staged since the last flush.
    dirty: AtomicBool,
    /// A read failed: so does everything until the database is opened again.
    spoilt: AtomicBool,
    /// Bytes staged since the database was opened, and how many are too many.
    staged: AtomicU64,
    limit: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    stopped: OnceLock<String>,
    lock: File,
}

impl Seam {
    pub(super) fn open(options: SledOptions) -> Result<Self, StoreError> {
        let dir = options.dir.clone();
        fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
        let lock = lock(&dir)?;
        check_format(&dir)?;
        let session = start(&options)?;
        write_format(&dir)?;
        let seam = Self {
            session: RwLock::new(Some(session)),
            suspects: Suspects::load(&dir).map_err(|e| failed("read", &dir, e))?,
            dirty: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            staged: AtomicU64::new(0),
            limit: AtomicU64::new(options.reopen_bytes),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stopped: OnceLock::new(),
            lock,
            options,
        };
        seam.question_suspects()?;
        Ok(seam)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// A failed read spoils the handle for everybody, whosever slot it was: so the database is
    /// opened again, where nothing is staged, and the slot asked for once more.
    pub(super) fn get_block(&self, key: &SlotKey) -> Result<Option<Bytes>, SlotError> {
        if self.suspects.contains(key) {
            let cause = "it could not be read before".to_owned();
            return Err(SlotError::Unreadable(cause));
        }
        let first = match self.try_block(key)? {
            Ok(found) => return Ok(found),
            Err(cause) => cause,
        };
        let mine = !self.spoilt.swap(true, Ordering::SeqCst);
        if mine {
            self.suspect(*key);
        }
        if !self.reopen()? {
            return Err(if mine {
                SlotError::Unreadable(first)
            } else {
                self.spoilt().into()
            });
        }
        match self.try_block(key)? {
            Ok(found) => {
                self.acquit(key);
                Ok(found)
            }
            Err(cause) => {
                self.suspect(*key);
                self.spoilt.store(true, Ordering::SeqCst);
                self.reopen()?;
                Err(SlotError::Unreadable(cause))
            }
        }
    }

    pub(super) fn put_block(&self, key: &SlotKey, block: &[u8]) -> Result<(), SlotError> {
        if self.suspects.contains(key) {
            let cause = "its slot cannot be read".to_owned();
            return Err(SlotError::Unreadable(cause));
        }
        let len = block.len() as u64;
        self.staged.fetch_add(len, Ordering::Relaxed);
        self.written.fetch_add(len, Ordering::Relaxed);
        let suspect = || self.suspect(*key);
        self.stage(suspect, |h| {
            h.blocks.insert(key.to_bytes(), block).map(|_| ())
        })?;
        Ok(())
    }

    pub(super) fn remove_block(&self, key: &SlotKey) -> Result<(), StoreError> {
        if self.suspects.contains(key) {
            return Ok(());
        }
        let suspect = || self.suspect(*key);
        self.stage(suspect, |h| h.blocks.remove(key.to_bytes()).map(|_| ()))
    }

    pub(super) fn put(
        &self,
        space: Space,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let len = key.len() + value.map_or(0, <[u8]>::len);
        self.staged.fetch_add(len as u64, Ordering::Relaxed);
        self.stage(
            || (),
            |h| match value {
                Some(value) => h.small(space).insert(key, value).map(|_| ()),
                None => h.small(space).remove(key).map(|_| ()),
            },
        )
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.lease()?.with(|h| h.small(space).get(key));
        let found = found.map_err(|e| self.unreadable(space, &e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Walks from `prefix` up to the first key without it: an upper bound would not keep sled from
    /// walking to the end of the tree.
    pub(super) fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let found = self.lease()?.with(|h| {
            let mut found = Vec::new();
            for entry in h.small(space).range(prefix..) {
                let (key, value) = entry?;
                if !key.starts_with(prefix) {
                    break;
                }
                found.push((key.to_vec(), value.to_vec()));
            }
            Ok(found)
        });
        found.map_err(|e| self.unreadable(space, &e))
    }

    /// Makes what was staged durable. A failure stops all writing for good.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.check()?;
        let lease = self.lease()?;
        self.dirty.store(false, Ordering::SeqCst);
        lease.flush().map_err(|e| {
            lease.leak();
            self.stop(&e)
        })
    }

    /// Opens the database again where that is due: to free its memory, or to heal it.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let staged = self.staged.load(Ordering::Relaxed);
        let full = staged >= self.limit.load(Ordering::Relaxed);
        if !full && !self.spoilt.load(Ordering::SeqCst) {
            return Ok(());
        }
        if !self.reopen()? {
            let later = staged + self.options.reopen_bytes / 4;
            self.limit.store(later, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.stopped.get() {
            Some(cause) => Err(stopped(cause)),
            None => Ok(()),
        }
    }

    pub(super) fn io(&self) -> Io {
        Io {
            block_bytes_read: self.read.load(Ordering::Relaxed),
            block_bytes_written: self.written.load(Ordering::Relaxed),
        }
    }

    /// Releases the files. The caller has flushed.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.check()?;
        let Some(mut session) = self.session.try_write_for(CLOSE) else {
            let cause = "a read does not end";
            return Err(stopped(cause));
        };
        let closed = session.take();
        self.stopped
            .get_or_init(|| "the store was closed".to_owned());
        drop(closed);
        unlock(&self.lock);
        Ok(())
    }

    fn lease(&self) -> Result<Lease<'_>, StoreError> {
        Lease::new(self.session.read()).ok_or_else(|| stopped("the store was closed"))
    }

    fn stage(
        &self,
        suspect: impl FnOnce(),
        write: impl FnOnce(&super::session::Handle) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        self.check()?;
        let lease = self.lease()?;
        self.dirty.store(true, Ordering::SeqCst);
        let done = lease.with(write);
        // Again: a flush may have begun between the two.
        self.dirty.store(true, Ordering::SeqCst);
        done.map_err(|e| {
            if !self.spoilt.swap(true, Ordering::SeqCst) {
                suspect();
            }
            lease.leak();
            self.stop(&e)
        })
    }

    fn try_block(&self, key: &SlotKey) -> Result<Result<Option<Bytes>, String>, StoreError> {
        let found = self.lease()?.with(|h| h.blocks.get(key.to_bytes()));
        let counted = |block: ::sled::InlineArray| {
            self.read.fetch_add(block.len() as u64, Ordering::Relaxed);
            Bytes::from_owner(block)
        };
        Ok(found
            .map(|found| found.map(counted))
            .map_err(|e| e.to_string()))
    }

    /// Opens the database again; false when reads do not end or what is staged would be lost.
    fn reopen(&self) -> Result<bool, StoreError> {
        let Some(mut session) = self.session.try_write_for(QUIET) else {
            return Ok(false);
        };
        let Some(open) = &*session else {
            return Ok(false);
        };
        self.check()?;
        let spoilt = self.spoilt.load(Ordering::SeqCst);
        if self.dirty.load(Ordering::SeqCst) {
            if spoilt {
                return Ok(false);
            }
            open.flush().map_err(|e| {
                open.leak();
                self.stop(&e)
            })?;
            self.dirty.store(false, Ordering::SeqCst);
        }
        drop(session.take());
        *session = Some(start(&self.options).inspect_err(|e| self.stop_for(e.to_string()))?);
        self.spoilt.store(false, Ordering::SeqCst);
        self.staged.store(0, Ordering::Relaxed);
        self.limit
            .store(self.options.reopen_bytes, Ordering::Relaxed);
        Ok(true)
    }

    /// Asks again for each slot that could not be read in an earlier life.
    fn question_suspects(&self) -> Result<(), StoreError> {
        for slot in self.suspects.all() {
            match self.try_block(&slot)? {
                Ok(_) => self.acquit(&slot),
                Err(cause) => {
                    tracing::warn!(?slot, cause, "a slot cannot be read");
                    self.spoilt.store(true, Ordering::SeqCst);
                    self.reopen()?;
                }
            }
        }
        Ok(())
    }

    fn suspect(&self, slot: SlotKey) {
        tracing::error!(?slot, "a slot cannot be read");
        if let Err(error) = self.suspects.add(slot) {
            tracing::error!(%error, "cannot note a slot that cannot be read");
        }
    }

    fn acquit(&self, slot: &SlotKey) {
        if let Err(error) = self.suspects.clear(slot) {
            tracing::error!(%error, "cannot clear a slot that can be read after all");
        }
    }

    fn stop(&self, e: &io::Error) -> StoreError {
        self.stop_for(e.to_string());
        if e.kind() == io::ErrorKind::StorageFull {
            let path = self.options.dir.clone();
            return StoreError::DiskFull { path };
        }
        stopped(&e.to_string())
    }

    fn stop_for(&self, cause: String) {
        tracing::error!(cause, "writing stops");
        self.stopped.get_or_init(|| cause);
    }

    fn spoilt(&self) -> StoreError {
        StoreError::Damaged {
            what: self.options.dir.display().to_string(),
            detail: "a block cannot be read, and with it nothing else".to_owned(),
        }
    }

    fn unreadable(&self, space: Space, e: &io::Error) -> StoreError {
        self.spoilt.store(true, Ordering::SeqCst);
        StoreError::Damaged {
            what: format!("the {} map", space.name()),
            detail: e.to_string(),
        }
    }
}

fn stopped(cause: &str) -> StoreError {
    StoreError::Stopped {
        cause: cause.to_owned(),
    }
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::WouldBlock {
        return StoreError::Locked { path };
    }
    StoreError::Io {
        action,
        path,
        source,
    }
}

fn start(options: &SledOptions) -> Result<Session, StoreError> {
    let path = options.dir.join(DATABASE);
    Session::open(&path, options).map_err(|e| {
        let damage = [io::ErrorKind::InvalidData, io::ErrorKind::Other];
        if damage.contains(&e.kind()) {
            let (what, detail) = (path.display().to_string(), e.to_string());
            return StoreError::Damaged { what, detail };
        }
        failed("open", &path, e)
    })
}

/// Takes the data directory's lock, which the guard needs before sled takes its own.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(|e| failed("create", &path, e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| failed("lock", dir, e.into()))?;
    Ok(file)
}

/// Says so and does not leave it to the end of the file: a process just being started may still
/// hold a copy.
pub(super) fn unlock(lock: &File) {
    if let Err(error) = rustix::fs::flock(lock, FlockOperation::Unlock) {
        tracing::warn!(%error, "cannot give up the lock of the data directory");
    }
}

/// The version the directory was written by; `None` when it is not one of ours.
pub(super) fn read_format(dir: &Path) -> Result<Option<u32>, StoreError> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", &path, e)),
    };
    let found = text.trim().strip_prefix("ringfeed ");
    match found.and_then(|version| version.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(StoreError::Damaged {
            what: path.display().to_string(),
            detail: "it does not say \"ringfeed\" and a version".to_owned(),
        }),
    }
}

fn check_format(dir: &Path) -> Result<(), StoreError> {
    match read_format(dir)? {
        Some(found) if found > FORMAT => Err(StoreError::NewerFormat {
            what: dir.display().to_string(),
            found,
            known: FORMAT,
        }),
        Some(_) | None => Ok(()),
    }
}

fn write_format(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FORMAT_FILE);
    if path.exists() {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let new = dir.join("FORMAT.new");
        fs::write(&new, format!("ringfeed {FORMAT}\n"))?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, &path)?;
        super::guard::sync_dir(dir)
    };
    write().map_err(|e| failed("write", &path, e))
}

impl Drop for Seam {
    /// sled flushes when it is dropped, and ends the process where it cannot: what is staged on a
    /// spoilt handle cannot be flushed.
    fn drop(&mut self) {
        let doomed = self.spoilt.load(Ordering::SeqCst) && self.dirty.load(Ordering::SeqCst);
        if let (true, Some(session)) = (doomed, self.session.get_mut()) {
            session.leak();
        }
        *self.session.get_mut() = None;
        unlock(&self.lock);
    }
}

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seam")
            .field("dir", &self.options.dir)
            .finish_non_exhaustive()
    }
}
