//! The one seam to sled: open, slots, small entries, flush, heal, close. Nothing beyond this file,
//! `session` and `desk` knows that it is sled.
//!
//! What is staged stays here until a flush wrote it, and is read from here meanwhile. So a
//! database that a failed read or flush spoilt can be opened again at any time: nothing is lost
//! with it. Dropping it writes nothing.

use std::{
    collections::{HashMap, hash_map},
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
    desk::{Departure, Desk, Place},
    directory::{self, DATABASE, failed},
    keys::SlotKey,
    objects::{Key, content, entry_content, entry_value},
    options::SledOptions,
    session::{Lease, Recovered, Session, Written},
    suspects::Suspects,
    tails::{Part, parts},
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
    lost_tails: AtomicBool,
    flushes: AtomicU64,
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
        let written = slots_written(&recovered);
        let mut desk = Desk::new(options.cache_bytes);
        desk.learn(recovered);
        let seam = Self {
            session: RwLock::new(Some(session)),
            desk: Mutex::new(desk),
            flushing: Mutex::new(()),
            suspects: Suspects::load(&dir).map_err(|e| failed("read", &dir, e))?,
            spoilt: AtomicBool::new(false),
            opens: AtomicU64::new(0),
            lost_tails: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stopped: OnceLock::new(),
            lock,
            options,
        };
        seam.question_suspects()?;
        seam.replay_notes(&written)?;
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
        let Some((departure, Written { places, bytes })) = self.write()? else {
            return Ok(());
        };
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
        // What could not be read was overwritten.
        for slot in self.desk.lock().arrive(departure, places) {
            self.acquit(&slot);
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

    /// Writes what is staged; `None` when that is nothing. A flush fails when a read has spoilt the
    /// database: then it is opened again and written to once more.
    fn write(&self) -> Result<Option<(Departure, Written)>, StoreError> {
        let mut attempts = 0;
        loop {
            if self.spoilt.load(Ordering::SeqCst) {
                self.heal(&mut self.session.write())?;
            }
            let Some(mut departure) = self.desk.lock().depart() else {
                return Ok(None);
            };
            let changes = std::mem::take(&mut departure.changes);
            let (opens, done) = {
                let lease = self.lease()?;
                let opens = self.opens.load(Ordering::SeqCst);
                (opens, lease.write(departure.seq, changes))
            };
            let error = match done {
                Ok(written) => return Ok(Some((departure, written))),
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

    /// Builds the growing blocks from the notes. `written`: the flush that wrote each slot.
    fn replay_notes(&self, written: &HashMap<SlotKey, u64>) -> Result<(), StoreError> {
        let mut slots: HashMap<SlotKey, Option<Bytes>> = HashMap::new();
        let notes = self.desk.lock().notes();
        for (seq, id) in notes {
            let note = self.read_object(id)?.ok().flatten();
            let len = note.as_ref().map_or(0, Bytes::len);
            self.desk.lock().tails.add_note(seq, len);
            let Some(parts) = note.and_then(parts) else {
                tracing::error!(seq, "a note of growing blocks is damaged");
                self.lost_tails.store(true, Ordering::SeqCst);
                continue;
            };
            let newer = |part: &Part| written.get(&part.slot).is_none_or(|in_slot| *in_slot < seq);
            for part in parts.into_iter().filter(newer) {
                if part.kept > 0
                    && let hash_map::Entry::Vacant(place) = slots.entry(part.slot)
                {
                    place.insert(self.slot_content(part.slot)?);
                }
                let base = slots.get(&part.slot).and_then(Option::as_ref);
                if !self.desk.lock().tails.replay(seq, &part, base) {
                    tracing::error!(slot = ?part.slot, "a block cannot be put together");
                }
            }
        }
        Ok(())
    }

    /// What the slot itself holds; `None` also when it cannot be read.
    fn slot_content(&self, slot: SlotKey) -> Result<Option<Bytes>, StoreError> {
        let id = self.desk.lock().id(&Key::Block(slot));
        let Some(id) = id.filter(|_| !self.suspects.contains(&slot)) else {
            return Ok(None);
        };
        let read = self.read_object(id)?;
        if read.is_err() {
            self.suspect(slot);
        }
        Ok(read.ok().flatten())
    }

    /// Whether notes could not be read: then any ring may lack its newest records.
    pub(super) fn lost_tails(&self) -> bool {
        self.lost_tails.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
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

/// The flush that wrote each slot.
fn slots_written(recovered: &Recovered) -> HashMap<SlotKey, u64> {
    recovered
        .iter()
        .filter_map(|found| match found.key {
            Key::Block(slot) => Some((slot, found.seq)),
            Key::Root | Key::Note(_) | Key::Entry(..) => None,
        })
        .collect()
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
