//! The series of a table: which there are of each key, and where each of them stands.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use super::{Seen, bar::Bar};
use crate::{
    model::{Offset, UnixNanos},
    proto::v1::BarSource,
};

/// Numbers a series within its table.
pub(super) type SeriesId = u32;

/// Which of a key's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tag {
    pub source: BarSource,
    /// A vector's channel from 1; 0: no vector.
    channel: u32,
}

impl Tag {
    pub(super) fn of(source: BarSource) -> Self {
        Self { source, channel: 0 }
    }

    pub(super) fn of_channel(channel: u32) -> Self {
        Self {
            source: BarSource::Reading,
            channel: channel.saturating_add(1),
        }
    }

    pub(super) fn channel(self) -> Option<u32> {
        self.channel.checked_sub(1)
    }
}

#[derive(Debug)]
pub(super) struct Series {
    pub key: Arc<str>,
    pub tag: Tag,
    /// The bar in progress: only the one that begins last can be.
    pub open: Option<Bar>,
    /// The start of the bar that begins last of all that there were.
    pub newest: Option<UnixNanos>,
    /// Bars that begin before this and are not in the table are not known: there may have been
    /// one.
    pub known_from: UnixNanos,
    /// When it is up for a look whether its open bar is complete.
    pub due: Option<UnixNanos>,
    /// Complete bars in the table, and when each was changed last.
    pub complete: BTreeMap<UnixNanos, Seen>,
    /// Where the trades are that can be corrected.
    pub trades: HashMap<Arc<str>, TradePlace>,
}

/// Where the last trade with some id is.
#[derive(Clone, Copy, Debug)]
pub(super) struct TradePlace {
    pub start: UnixNanos,
    pub offset: Offset,
    pub place: usize,
}

impl Series {
    /// By name, then source and channel: the same in every table.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        (&self.key, self.tag).cmp(&(&other.key, other.tag))
    }
}

/// Bytes of a series and of a key, without the key's name.
pub(super) const SERIES_BYTES: usize = size_of::<Series>() + size_of::<(Tag, SeriesId)>() + 16;
const KEY_BYTES: usize = size_of::<Places>() + 2 * size_of::<(Arc<str>, u32)>();

/// Where a key's series are, by tag.
type Places = Vec<(Tag, SeriesId)>;

/// All series by key.
#[derive(Debug, Default)]
pub(super) struct Keys {
    ids: HashMap<Arc<str>, u32>,
    of_key: Vec<(Arc<str>, Places)>,
    series: Vec<Series>,
}

impl Keys {
    /// The key's number, as long as it has a series.
    pub(super) fn key(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The key's number, and how many bytes it took if it is new.
    pub(super) fn add_key(&mut self, name: &str) -> (u32, usize) {
        let key = u32::try_from(self.of_key.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        let bytes = KEY_BYTES + name.len();
        self.ids.insert(Arc::clone(&name), key);
        self.of_key.push((name, vec![]));
        (key, bytes)
    }

    pub(super) fn name(&self, key: u32) -> Option<&str> {
        self.of_key.get(key as usize).map(|(name, _)| &**name)
    }

    pub(super) fn find(&self, key: u32, tag: Tag) -> Option<SeriesId> {
        let (_, of_key) = self.of_key.get(key as usize)?;
        let at = of_key.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        of_key.get(at).map(|(_, id)| *id)
    }

    /// Adds a series that the key does not have yet.
    pub(super) fn add(&mut self, key: u32, tag: Tag, known_from: UnixNanos) -> Option<SeriesId> {
        let id = u32::try_from(self.series.len()).ok()?;
        let (name, of_key) = self.of_key.get_mut(key as usize)?;
        let at = of_key.partition_point(|(other, _)| *other < tag);
        of_key.insert(at, (tag, id));
        self.series.push(Series {
            key: Arc::clone(name),
            tag,
            open: None,
            newest: None,
            known_from,
            due: None,
            complete: BTreeMap::new(),
            trades: HashMap::new(),
        });
        Some(id)
    }

    pub(super) fn get(&self, id: SeriesId) -> Option<&Series> {
        self.series.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: SeriesId) -> Option<&mut Series> {
        self.series.get_mut(id as usize)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.series.iter_mut()
    }

    pub(super) fn into_series(self) -> Vec<Series> {
        self.series
    }
}
