//! One open of the database: a pool of handles, since those of sled cannot be shared by threads.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use parking_lot::{Mutex, RwLockReadGuard};

use crate::store::Space;

use super::{guard, options::SledOptions};

/// Entries per leaf. The smallest there is: a leaf is written as a whole, so with more of them a
/// block would take others along.
const FANOUT: usize = 3;
/// sled flushes by itself only on a timer, and not otherwise only if there is one: this one never
/// fires. A flush of its own after a failed one would abort the process.
const NEVER_MS: usize = 10 * 365 * 24 * 3_600_000;
/// Blocks rest as they are: this level finds nothing and copies. With compression a block would
/// take another slab at each turn of the ring, and each slab keeps its greatest size.
const NO_COMPRESSION: i32 = -131_072;

const OPEN_ATTEMPTS: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

type Db = ::sled::Db<FANOUT>;
type Tree = ::sled::Tree<FANOUT>;

/// All the trees, for one thread at a time.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) db: Db,
    pub(super) blocks: Tree,
    small: [Tree; Space::ALL.len()],
}

impl Handle {
    pub(super) fn small(&self, space: Space) -> &Tree {
        let [catalog, marks, latest, cursors, heads] = &self.small;
        match space {
            Space::Catalog => catalog,
            Space::Marks => marks,
            Space::Latest => latest,
            Space::Cursors => cursors,
            Space::Heads => heads,
        }
    }
}

pub(super) struct Session {
    idle: Mutex<Vec<Handle>>,
    origin: Mutex<Handle>,
}

impl Session {
    /// Opens the database in `dir`; the caller holds the data directory's lock.
    pub(super) fn open(dir: &Path, options: &SledOptions) -> io::Result<Self> {
        let new = !dir.join("durability_cookie").exists();
        guard::before_open(dir)?;
        let config = ::sled::Config::new()
            .path(dir)
            .cache_capacity_bytes(options.cache_bytes)
            .flush_every_ms(Some(NEVER_MS))
            .zstd_compression_level(NO_COMPRESSION);
        let db = open_db(&config)?;
        if new {
            guard::after_creation(dir)?;
        }
        let handle = Handle {
            blocks: db.open_tree("ring")?,
            small: [
                db.open_tree(Space::Catalog.name())?,
                db.open_tree(Space::Marks.name())?,
                db.open_tree(Space::Latest.name())?,
                db.open_tree(Space::Cursors.name())?,
                db.open_tree(Space::Heads.name())?,
            ],
            db,
        };
        Ok(Self {
            idle: Mutex::new(Vec::new()),
            origin: Mutex::new(handle),
        })
    }

    fn take(&self) -> Handle {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| self.origin.lock().clone())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.origin.lock().flush()
    }

    /// Keeps the database open for as long as the process lives: dropping it would flush, and a
    /// flush after a failed one hangs.
    pub(super) fn leak(&self) {
        std::mem::forget(self.origin.lock().clone());
    }
}

impl Handle {
    fn flush(&self) -> io::Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.db.flush()))
            .unwrap_or_else(|_| Err(io::Error::other("sled panicked while it flushed")))
            .map(|_| ())
    }
}

/// The data directory is ours, so sled's own lock can only be held by a copy of our last handle
/// in a process that is just being started: that ends in a moment.
fn open_db(config: &::sled::Config) -> io::Result<Db> {
    let mut attempts = 0;
    loop {
        // sled panics on some kinds of damage.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .unwrap_or_else(|_| Err(io::Error::other("sled cannot make sense of its files")));
        match opened {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && attempts < OPEN_ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(OPEN_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// A handle on loan. While one is out, the database is not opened again.
pub(super) struct Lease<'a> {
    session: RwLockReadGuard<'a, Option<Session>>,
    handle: Option<Handle>,
}

impl<'a> Lease<'a> {
    /// `None` when the database is closed.
    pub(super) fn new(session: RwLockReadGuard<'a, Option<Session>>) -> Option<Self> {
        let handle = session.as_ref()?.take();
        Some(Self {
            session,
            handle: Some(handle),
        })
    }

    pub(super) fn with<T>(&self, ask: impl FnOnce(&Handle) -> io::Result<T>) -> io::Result<T> {
        match &self.handle {
            Some(handle) => ask(handle),
            None => Err(io::Error::other("the lease is over")),
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.with(Handle::flush)
    }

    pub(super) fn leak(&self) {
        if let Some(session) = &*self.session {
            session.leak();
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let (Some(session), Some(handle)) = (&*self.session, self.handle.take()) {
            session.idle.lock().push(handle);
        }
    }
}
