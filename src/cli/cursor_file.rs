//! A file that remembers how far a subscription was printed, so that the next run goes on there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::exit::Usage;
use crate::model::Cursor;

const VERSION: u32 = 1;

/// The places of all feeds in one file.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    places: BTreeMap<String, Cursor>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    cursors: Vec<StoredCursor>,
}

/// 64-bit integers are texts in JSON: not all readers keep them otherwise.
#[derive(Serialize, Deserialize)]
struct StoredCursor {
    feed: String,
    epoch: String,
    offset: String,
}

impl CursorFile {
    /// Reads the file; without one, begins anew.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let places = text.map_or_else(
            || Ok(BTreeMap::new()),
            |text| {
                parse(&text).ok_or_else(|| {
                    Usage::new(format!(
                        "{} is no cursor file of this version: name another one, or delete it to start anew",
                        path.display()
                    ))
                })
            },
        )?;
        Ok(Self {
            path: path.to_owned(),
            places,
        })
    }

    pub(super) fn place(&self, feed: &str) -> Option<Cursor> {
        self.places.get(feed).copied()
    }

    /// Enters new places and puts the file on disk as a whole: readers see the old one or the new
    /// one, also after a power loss.
    pub(super) fn save(&mut self, places: &BTreeMap<String, Cursor>) -> anyhow::Result<()> {
        self.places
            .extend(places.iter().map(|(feed, place)| (feed.clone(), *place)));
        self.write()
            .with_context(|| format!("cannot write the cursor file {}", self.path.display()))
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let beside = self.path.with_file_name(name);
        let mut file = File::create(&beside)?;
        file.write_all(self.text()?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        Ok(())
    }

    fn text(&self) -> serde_json::Result<String> {
        let cursors = self.places.iter().map(|(feed, place)| StoredCursor {
            feed: feed.clone(),
            epoch: place.epoch.to_string(),
            offset: place.offset.to_string(),
        });
        let stored = Stored {
            version: VERSION,
            cursors: cursors.collect(),
        };
        let mut text = serde_json::to_string_pretty(&stored)?;
        text.push('\n');
        Ok(text)
    }
}

fn parse(text: &str) -> Option<BTreeMap<String, Cursor>> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    if stored.version != VERSION {
        return None;
    }
    let places = stored.cursors.into_iter().map(|cursor| {
        let place = Cursor {
            epoch: cursor.epoch.parse().ok()?,
            offset: cursor.offset.parse().ok()?,
        };
        Some((cursor.feed, place))
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_those_of_other_feeds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursors.json");
        let place = |offset| Cursor {
            epoch: u64::MAX,
            offset,
        };
        let mut file = CursorFile::open(&path).unwrap();
        assert_eq!(file.place("a"), None);
        file.save(&BTreeMap::from([("a".to_owned(), place(1))]))
            .unwrap();
        let mut file = CursorFile::open(&path).unwrap();
        file.save(&BTreeMap::from([("b".to_owned(), place(2))]))
            .unwrap();
        let file = CursorFile::open(&path).unwrap();
        assert_eq!(file.place("a"), Some(place(1)));
        assert_eq!(file.place("b"), Some(place(2)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_something_else_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        for text in ["", "hello", "{\"version\":2,\"cursors\":[]}"] {
            fs::write(&path, text).unwrap();
            let error = CursorFile::open(&path).unwrap_err();
            assert!(error.is::<Usage>(), "{text:?}");
        }
    }
}
