//! Slots that sled could not read, in a file of their own: one such read spoils the whole handle,
//! so they are not asked for again, over restarts included.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::model::FeedId;

use super::{guard, keys::SlotKey};

const FILE: &str = "bad-slots";

#[derive(Debug)]
pub(super) struct Suspects {
    dir: PathBuf,
    slots: Mutex<BTreeSet<SlotKey>>,
}

impl Suspects {
    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(dir.join(FILE)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        Ok(Self {
            dir: dir.to_owned(),
            slots: Mutex::new(text.lines().filter_map(parse).collect()),
        })
    }

    pub(super) fn contains(&self, slot: &SlotKey) -> bool {
        self.slots.lock().contains(slot)
    }

    pub(super) fn all(&self) -> Vec<SlotKey> {
        self.slots.lock().iter().copied().collect()
    }

    pub(super) fn add(&self, slot: SlotKey) -> io::Result<()> {
        let mut slots = self.slots.lock();
        match slots.insert(slot) {
            true => self.write(&slots),
            false => Ok(()),
        }
    }

    pub(super) fn clear(&self, slot: &SlotKey) -> io::Result<()> {
        let mut slots = self.slots.lock();
        match slots.remove(slot) {
            true => self.write(&slots),
            false => Ok(()),
        }
    }

    fn write(&self, slots: &BTreeSet<SlotKey>) -> io::Result<()> {
        let new = self.dir.join("bad-slots.new");
        let mut file = File::create(&new)?;
        for SlotKey {
            feed,
            generation,
            slot,
        } in slots
        {
            writeln!(file, "{} {generation} {slot}", feed.0)?;
        }
        file.sync_all()?;
        fs::rename(new, self.dir.join(FILE))?;
        guard::sync_dir(&self.dir)
    }
}

fn parse(line: &str) -> Option<SlotKey> {
    let mut words = line.split(' ');
    Some(SlotKey {
        feed: FeedId(words.next()?.parse().ok()?),
        generation: words.next()?.parse().ok()?,
        slot: words.next()?.parse().ok()?,
    })
}
