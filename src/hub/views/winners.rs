//! CONFLATE: of a range of offsets, the record with the greatest event time of each key and kind,
//! ties by offset. Found once for everybody who is at the same place, whatever keys they want.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{
    filter::Filter,
    index::{frames, record_of},
    pick::Pick,
};
use crate::{
    model::{Chunk, Offset, PayloadKind, UnixNanos},
    proto::wire,
};

/// The latest of a kind: when it happened, and where it is.
type Best = (PayloadKind, UnixNanos, Offset);

/// What is found so far.
#[derive(Debug, Default)]
pub(crate) struct Winners {
    keys: HashMap<Box<str>, SmallVec<[Best; 1]>>,
    /// Everything before was looked at.
    pub until: Offset,
}

impl Winners {
    /// Nothing yet; what it sees begins at `from`.
    pub(crate) fn from(from: Offset) -> Self {
        Self {
            keys: HashMap::new(),
            until: from,
        }
    }

    /// Looks at all records of a chunk.
    pub(crate) fn see(&mut self, chunk: &Chunk) {
        let body = chunk.body();
        for (offset, frame) in (chunk.span().from..).zip(frames(&body)) {
            let record = record_of(body.get(frame).unwrap_or_default());
            let Some(stored) = wire::stored(record) else {
                continue;
            };
            let of_key = self.keys.entry_ref(stored.key).or_default();
            let seen = (stored.kind, stored.event_time, offset);
            match of_key.iter_mut().find(|best| best.0 == seen.0) {
                Some(best) if (best.1, best.2) <= (seen.1, seen.2) => *best = seen,
                Some(_) => {}
                None => of_key.push(seen),
            }
        }
        self.until = chunk.span().to;
    }

    /// Those of the wanted keys.
    pub(crate) fn pick(&self, filter: Option<&Filter>) -> Pick {
        let mut offsets: Vec<Offset> = match filter.and_then(Filter::few_names) {
            Some(names) => {
                let found = names.iter().filter_map(|name| self.keys.get(name.as_str()));
                found.flatten().map(|best| best.2).collect()
            }
            None => {
                let wanted = |key: &str| filter.is_none_or(|filter| filter.wants(key));
                let found = self.keys.iter().filter(|(key, _)| wanted(key));
                found.flat_map(|(_, bests)| bests).map(|b| b.2).collect()
            }
        };
        offsets.sort_unstable();
        Pick::shared(offsets, self.until)
    }
}
