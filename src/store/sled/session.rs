//! One open of the database: a pool of handles, since those of sled cannot be shared by threads.
//!
//! sled's `ObjectCache` is used without its trees: an object is read from the disk at each call
//! and written when a flush says so, and all that one flush writes is one frame of sled's log:
//! after a crash all of it is there or none.

use std::{
    collections::HashMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ::sled::{CollectionId, Config, Dirty, InlineArray, ObjectCache, ObjectId};
use parking_lot::{Mutex, RwLockReadGuard};
use rustix::process::{Pid, setpriority_process};

use super::{
    guard,
    objects::{Key, fill_up},
};

/// Of the trees that are not used. It is noted in the database and must not change.
const FANOUT: usize = 3;
/// How sled names that thread, and how many steps of niceness of 19 it gets.
const TIDYING: &str = "sled_flusher";
const GIVE_WAY: i32 = 10;
const OPEN_ATTEMPTS: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

type Objects = ObjectCache<FANOUT>;

/// A change of one object.
#[derive(Debug)]
pub(super) enum Change {
    /// In place of the object `id`, or as a new one.
    Store {
        key: Key,
        id: Option<ObjectId>,
        object: Vec<u8>,
    },
    Free {
        key: Key,
        id: ObjectId,
    },
}

/// What a write left: where each object is now, and the bytes it cost.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) places: Vec<(Key, Option<ObjectId>)>,
    pub(super) bytes: u64,
}

/// The objects that were found.
pub(super) type Recovered = Vec<Found>;

#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Key,
    /// The flush that wrote it.
    pub(super) seq: u64,
    pub(super) id: ObjectId,
}

pub(super) struct Session {
    idle: Mutex<Vec<Objects>>,
    origin: Mutex<Objects>,
    collection: CollectionId,
}

impl Session {
    /// Opens the database in `dir`; the caller holds the data directory's lock.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Recovered)> {
        let new = !dir.join("durability_cookie").exists();
        guard::before_open(dir)?;
        let mut config = Config::new().path(dir);
        // sled would move objects together in the flush after many were freed, all at once. Ours
        // move by themselves: each write takes the first free slot.
        config.target_heap_file_fill_ratio = 0.0;
        write_with_one_thread();
        let (objects, collection, recovered) = recover(&config)?;
        let_tidying_give_way();
        if new {
            guard::after_creation(dir)?;
        }
        let session = Self {
            idle: Mutex::new(Vec::new()),
            origin: Mutex::new(objects),
            collection,
        };
        if !recovered.iter().any(|found| found.key == Key::Root) {
            session.found()?;
        }
        Ok((session, recovered))
    }

    /// Writes what makes a database: sled insists on an object with an empty name, and the root
    /// beside it, in one frame with it, says that there is one.
    fn found(&self) -> io::Result<()> {
        let objects = self.origin.lock();
        guarded(|| {
            {
                let epoch = objects.check_into_flush_epoch();
                for key in [None, Some(Key::Root)] {
                    let id = objects.allocate_object_id(epoch.epoch());
                    let name = key.map_or_else(Vec::new, |key| key.name(0, *id));
                    let dirty = self.dirty(id, &name, fill_up(b"ringfeed"));
                    objects.install_dirty(epoch.epoch(), id, dirty);
                }
            }
            objects.flush().map(|_| ())
        })
    }

    /// For who has the database alone.
    pub(super) fn read(&self, id: ObjectId) -> io::Result<Option<Vec<u8>>> {
        self.origin.lock().read(id).transpose()
    }

    fn dirty(&self, id: ObjectId, name: &[u8], object: Vec<u8>) -> Dirty<FANOUT> {
        Dirty::CooperativelySerialized {
            object_id: id,
            collection_id: self.collection,
            low_key: InlineArray::from(name),
            data: Arc::new(object),
            mutation_count: 0,
        }
    }

    fn free(&self, id: ObjectId) -> Dirty<FANOUT> {
        Dirty::MergedAndDeleted {
            object_id: id,
            collection_id: self.collection,
        }
    }

    fn take(&self) -> Objects {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| self.origin.lock().clone())
    }
}

/// sled panics on some kinds of damage and error.
fn guarded<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(io::Error::other("sled cannot make sense of its files")))
}

/// The data directory is ours, so sled's own lock can only be held by a copy of our last handle
/// in a process that is just being started: that ends in a moment.
fn recover(config: &Config) -> io::Result<(Objects, CollectionId, Recovered)> {
    let mut attempts = 0;
    loop {
        match guarded(|| try_recover(config)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && attempts < OPEN_ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(OPEN_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// sled writes the objects of a flush with the global pool of threads. They are for one file, so
/// several would wait for each other: one takes a fifth less of the processor.
fn write_with_one_thread() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "sled_writer".to_owned());
    if let Err(error) = pool.build_global() {
        // The second database of a process, say.
        tracing::debug!(%error, "the pool is as it is");
    }
}

/// sled's thread that tidies its log works for a tenth of a second at a time; on two cores whoever
/// waits for a flush would feel it. Where this cannot be done, nothing is lost but time.
fn let_tidying_give_way() {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    for thread in threads.flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        if let (TIDYING, Some(id)) = (name.trim_end(), id.and_then(Pid::from_raw))
            && let Err(error) = setpriority_process(Some(id), GIVE_WAY)
        {
            tracing::debug!(%error, "sled's log is tidied at full priority");
        }
    }
}

fn try_recover(config: &Config) -> io::Result<(Objects, CollectionId, Recovered)> {
    let (objects, trees, _) = Objects::recover(config)?;
    let ids: HashMap<u64, ObjectId> = objects
        .object_id_index
        .iter()
        .map(|(id, _)| (*id, id))
        .collect();
    // There are two: sled's own, which stays empty, and that of unnamed trees.
    let (collection, names) = trees
        .into_iter()
        .max_by_key(|(collection, _)| *collection)
        .ok_or_else(|| io::Error::other("sled knows no collection"))?;
    let mut recovered = Vec::with_capacity(ids.len());
    for (name, _) in names.iter().filter(|(name, _)| !name.is_empty()) {
        let found = Key::parse(&name).and_then(|(key, seq, id)| {
            let id = *ids.get(&id)?;
            Some(Found { key, seq, id })
        });
        let found = found.ok_or_else(|| {
            let cause = "an object has a name that does not parse";
            io::Error::new(io::ErrorKind::InvalidData, cause)
        })?;
        recovered.push(found);
    }
    // sled would go on under a recovered name when the id was given to another object.
    for id in ids.values() {
        objects.object_id_index.remove(id);
    }
    Ok((objects, collection, recovered))
}

/// A handle on loan. While one is out, the database is not opened again.
pub(super) struct Lease<'a> {
    session: RwLockReadGuard<'a, Option<Session>>,
    objects: Option<Objects>,
}

impl<'a> Lease<'a> {
    /// `None` when the database is closed.
    pub(super) fn new(session: RwLockReadGuard<'a, Option<Session>>) -> Option<Self> {
        let objects = session.as_ref()?.take();
        Some(Self {
            session,
            objects: Some(objects),
        })
    }

    pub(super) fn read(&self, id: ObjectId) -> io::Result<Option<Vec<u8>>> {
        let (_, objects) = self.both()?;
        objects.read(id).transpose()
    }

    /// Makes all of `changes` durable as flush `seq`, or none. One caller at a time.
    pub(super) fn write(&self, seq: u64, changes: Vec<Change>) -> io::Result<Written> {
        let (session, objects) = self.both()?;
        guarded(|| {
            let mut written = Written::default();
            {
                // One epoch for all, so that they are one frame of the log.
                let epoch = objects.check_into_flush_epoch();
                for change in changes {
                    let epoch = epoch.epoch();
                    match change {
                        Change::Store { key, id, object } => {
                            let id = id.unwrap_or_else(|| objects.allocate_object_id(epoch));
                            let dirty = session.dirty(id, &key.name(seq, *id), object);
                            objects.install_dirty(epoch, id, dirty);
                            written.places.push((key, Some(id)));
                        }
                        Change::Free { key, id } => {
                            objects.install_dirty(epoch, id, session.free(id));
                            written.places.push((key, None));
                        }
                    }
                }
            }
            let batch = objects.flush()?.write_batch;
            written.bytes = batch.heap_bytes_written + batch.metadata_bytes_written;
            Ok(written)
        })
    }

    fn both(&self) -> io::Result<(&Session, &Objects)> {
        let both = self.session.as_ref().zip(self.objects.as_ref());
        both.ok_or_else(|| io::Error::other("the lease is over"))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let (Some(session), Some(objects)) = (&*self.session, self.objects.take()) {
            session.idle.lock().push(objects);
        }
    }
}
