//! The one seam to sled: open, slots, small entries, flush, heal, close. Nothing beyond this file,
//! `session` and `desk` knows that it is sled.
//!
//! What is staged stays here until a flush wrote it, and is read from here meanwhile. So a
//! database that a failed read or flush spoilt can be opened again at any time: nothing is lost
//! with it. Dropping it writes nothing.

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

use ::sled::ObjectId;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::store::{Entry, Io, Space, StoreError};

use super::{
    desk::{Desk, Layer, Place},
    directory::{self, DATABASE, failed},
    keys::SlotKey,
    objects::{Key, content, entry_content, entry_value, fill_up},
    options::SledOptions,
    session::{Change, Lease, Recovered, Session, Written},
    suspects::Suspects,
};

/// How long an open waits for reads and a flush to end: new ones wait behind it.
const QUIET: Duration = Duration::from_secs(5);
const CLOSE: Duration = Duration::from_secs(5);
/// How often a flush is tried while reads keep spoiling the database under it.
const FLUSH_ATTEMPTS: u32 = 8;

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
    desk: Mutex<Desk>,
    flushing: Mutex<()>,
    suspects: Suspects,
    /// A read or a flush failed: so does everything until the database is opened again.
    spoilt: AtomicBool,
    /// How often it was.
    opens: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    stopped: OnceLock<String>,
    lock: File,
}

impl Seam {
    pub(super) fn open(options: SledOptions) -> Result<Self, StoreError> {
        let dir = options.dir.clone();
        fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
        let lock = directory::lock(&dir)?;
        directory::read_format(&dir)?;
        let (session, recovered) = start(&options)?;
        directory::write_format(&dir)?;
        let mut desk = Desk::new(options.cache_bytes);
        desk.learn(recovered);
        let seam = Self {
            session: RwLock::new(Some(session)),
            desk: Mutex::new(desk),
            flushing: Mutex::new(()),
            suspects: Suspects::load(&dir).map_err(|e| failed("read", &dir, e))?,
            spoilt: AtomicBool::new(false),
            opens: AtomicU64::new(0),
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

    /// A slot that cannot be read is noted, and not asked for again until it is overwritten.
    pub(super) fn get_block(&self, slot: &SlotKey) -> Result<Option<Bytes>, SlotError> {
        let (place, moment) = self.desk.lock().find(&Key::Block(*slot));
        let id = match place {
            Place::Here(block) => return Ok(block),
            Place::OnDisk(id) => id,
        };
        if self.suspects.contains(slot) {
            let cause = "it could not be read before".to_owned();
            return Err(SlotError::Unreadable(cause));
        }
        let block = match self.read_object(id)? {
            Ok(block) => block,
            Err(cause) => {
                self.suspect(*slot);
                return Err(SlotError::Unreadable(cause));
            }
        };
        if let Some(block) = &block {
            self.desk.lock().remember(*slot, block, moment);
        }
        Ok(block)
    }

    pub(super) fn put_block(&self, slot: SlotKey, block: Vec<u8>) -> Result<(), StoreError> {
        self.stage(Key::Block(slot), Some(block.into()))
    }

    pub(super) fn remove_block(&self, slot: SlotKey) -> Result<(), StoreError> {
        self.stage(Key::Block(slot), None)
    }

    pub(super) fn put(
        &self,
        space: Space,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let content = value.map(|value| entry_content(space, key, value).into());
        self.stage(Key::entry(space, key), content)
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (place, _) = self.desk.lock().find(&Key::entry(space, key));
        let content = match place {
            Place::Here(content) => content,
            Place::OnDisk(id) => {
                let read = self.read_object(id)?;
                read.map_err(|cause| unreadable(space, cause))?
            }
        };
        let value = |content| {
            let value = entry_value(space, key, content);
            value.ok_or_else(|| unreadable(space, "an entry fails its checks".to_owned()))
        };
        let value = content.map(value).transpose()?;
        Ok(value.map(Vec::from))
    }

    /// The entries whose keys begin with `prefix`, in order.
    pub(super) fn scan(&self, space: Space, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let keys = self.desk.lock().keys(space, prefix);
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(value) = self.get(space, &key)? {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// Makes what was staged durable, all of it or, after a crash, none. A failure stops all
    /// writing for good.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let _one = self.flushing.lock();
        self.check()?;
        let layer = self.desk.lock().leave();
        if layer.is_empty() {
            return Ok(());
        }
        let Written { places, bytes } = self.write(&layer)?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        self.desk.lock().arrive(places);
        // What could not be read was overwritten.
        for key in layer.keys() {
            if let Key::Block(slot) = key {
                self.acquit(slot);
            }
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
        directory::unlock(&self.lock);
        Ok(())
    }

    fn lease(&self) -> Result<Lease<'_>, StoreError> {
        Lease::new(self.session.read()).ok_or_else(|| stopped("the store was closed"))
    }

    fn stage(&self, key: Key, content: Option<Bytes>) -> Result<(), StoreError> {
        self.check()?;
        self.desk.lock().stage(key, content);
        Ok(())
    }

    /// Writes a layer. Nothing of it is in the database as long as a read has spoilt it: then it
    /// is opened again and written to once more.
    fn write(&self, layer: &Layer) -> Result<Written, StoreError> {
        let mut attempts = 0;
        loop {
            if self.spoilt.load(Ordering::SeqCst) {
                self.heal(&mut self.session.write())?;
            }
            let changes = self.changes(layer);
            let (opens, done) = {
                let lease = self.lease()?;
                let opens = self.opens.load(Ordering::SeqCst);
                (opens, lease.write(changes))
            };
            let error = match done {
                Ok(written) => return Ok(written),
                Err(error) => error,
            };
            attempts += 1;
            // Reads that are under way say first whether it was one of them.
            drop(self.session.try_write_for(QUIET));
            let healed = self.opens.load(Ordering::SeqCst) > opens;
            let spoilt = self.spoilt.swap(true, Ordering::SeqCst);
            if !(healed || spoilt) || attempts >= FLUSH_ATTEMPTS {
                return Err(self.stop(&error));
            }
        }
    }

    fn changes(&self, layer: &Layer) -> Vec<Change> {
        let desk = self.desk.lock();
        let change = |(key, content): (&Key, &Option<Bytes>)| {
            let (key, id) = (key.clone(), desk.id(key));
            match (content, id) {
                (Some(content), id) => Some((key, id, Some(content.clone()))),
                (None, Some(id)) => Some((key, Some(id), None)),
                (None, None) => None,
            }
        };
        let found: Vec<_> = layer.iter().filter_map(change).collect();
        drop(desk);
        found
            .into_iter()
            .filter_map(|(key, id, content)| match (content, id) {
                (Some(content), id) => {
                    let object = fill_up(&content);
                    Some(Change::Store { key, id, object })
                }
                (None, id) => Some(Change::Free { key, id: id? }),
            })
            .collect()
    }

    /// Reads an object. Where that fails, somebody else's failed read may be the cause: it is read
    /// again alone, from a database opened anew.
    fn read_object(&self, id: ObjectId) -> Result<Result<Option<Bytes>, String>, StoreError> {
        {
            let lease = self.lease()?;
            match lease.read(id) {
                Ok(object) => return Ok(self.received(object)),
                // While the lease is held: a flush that fails for it waits for that.
                Err(_) => self.spoilt.store(true, Ordering::SeqCst),
            }
        }
        let Some(mut session) = self.session.try_write_for(QUIET) else {
            return Err(self.spoilt());
        };
        self.heal(&mut session)?;
        let Some(open) = &*session else {
            return Err(stopped("the store was closed"));
        };
        match open.read(id) {
            Ok(object) => Ok(self.received(object)),
            Err(e) => {
                self.spoilt.store(true, Ordering::SeqCst);
                self.heal(&mut session)?;
                Ok(Err(e.to_string()))
            }
        }
    }

    fn received(&self, object: Option<Vec<u8>>) -> Result<Option<Bytes>, String> {
        let Some(object) = object else {
            return Ok(None);
        };
        let len = object.len() as u64;
        self.read.fetch_add(len, Ordering::Relaxed);
        let content = content(object).ok_or("it says a wrong length")?;
        Ok(Some(content))
    }

    /// Opens the database again where it is spoilt.
    fn heal(&self, session: &mut Option<Session>) -> Result<(), StoreError> {
        if !self.spoilt.load(Ordering::SeqCst) {
            return Ok(());
        }
        if session.take().is_none() {
            return Err(stopped("the store was closed"));
        }
        let started = start(&self.options).inspect_err(|e| self.stop_for(e.to_string()));
        let (open, recovered) = started?;
        *session = Some(open);
        self.desk.lock().learn(recovered);
        self.spoilt.store(false, Ordering::SeqCst);
        self.opens.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Asks again for each slot that could not be read in an earlier life.
    fn question_suspects(&self) -> Result<(), StoreError> {
        for slot in self.suspects.all() {
            let place = self.desk.lock().find(&Key::Block(slot)).0;
            let answer = match place {
                Place::Here(_) => Ok(None),
                Place::OnDisk(id) => self.read_object(id)?,
            };
            match answer {
                Ok(_) => self.acquit(&slot),
                Err(cause) => tracing::warn!(?slot, cause, "a slot cannot be read"),
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
}

fn stopped(cause: &str) -> StoreError {
    StoreError::Stopped {
        cause: cause.to_owned(),
    }
}

fn unreadable(space: Space, detail: String) -> StoreError {
    let what = format!("the {} map", space.name());
    StoreError::Damaged { what, detail }
}

fn start(options: &SledOptions) -> Result<(Session, Recovered), StoreError> {
    let path = options.dir.join(DATABASE);
    Session::open(&path).map_err(|e| {
        let damage = [io::ErrorKind::InvalidData, io::ErrorKind::Other];
        if damage.contains(&e.kind()) {
            let (what, detail) = (path.display().to_string(), e.to_string());
            return StoreError::Damaged { what, detail };
        }
        failed("open", &path, e)
    })
}

impl Drop for Seam {
    fn drop(&mut self) {
        *self.session.get_mut() = None;
        directory::unlock(&self.lock);
    }
}

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seam")
            .field("dir", &self.options.dir)
            .finish_non_exhaustive()
    }
}
