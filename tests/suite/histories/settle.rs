//! The end of a history: nobody writes any more, everybody reads up to the end, and all is checked.

use std::sync::Arc;

use ringfeed::proto::v1;

use super::{
    check::{before, check},
    history::ResumeBy,
    reader::{Read, Reader},
    run::Run,
    select::{self, Ends, feeds_of},
};

/// A subscriber that has not moved in so many messages never will.
const MANY_MESSAGES: usize = 1_000;
/// Nor one that was cut so often.
const MANY_RESUMES: usize = 200;

impl Run {
    /// Nobody writes any more: everybody reads up to the end.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        let readers = std::mem::take(&mut self.readers);
        for (nth, mut reader) in readers {
            self.catch_up(&mut reader).await?;
            check(&reader, &self.world.truth, &mut self.tally)?;
            self.readers.insert(nth, reader);
        }
        for reader in &self.past {
            check(reader, &self.world.truth, &mut self.tally)?;
        }
        self.tally.count("records refused", self.world.refused);
        self.world.hub.close().await.map_err(|e| e.to_string())
    }

    async fn catch_up(&mut self, reader: &mut Reader) -> Result<(), String> {
        let hub = Arc::clone(&self.world.hub);
        let (mut at, mut unmoved, mut resumes) = (vec![], 0, 0);
        while unmoved < MANY_MESSAGES {
            let now: Vec<_> = reader.ledger.lanes().map(|(_, lane)| lane.next()).collect();
            unmoved = if now == at { unmoved + 1 } else { 0 };
            at = now;
            if self.is_done(reader) {
                return Ok(());
            }
            if reader.read(&hub).await? == Read::Closed && !self.is_done(reader) {
                self.resume_reader(reader, ResumeBy::Token).await?;
                resumes += 1;
                if resumes > MANY_RESUMES {
                    break;
                }
            }
        }
        let places: Vec<_> = reader
            .ledger
            .lanes()
            .map(|(id, lane)| (id, lane.feed(), lane.next()))
            .collect();
        let (name, asked) = (&reader.name, (&reader.asked, &reader.places));
        let last = before(reader, reader.log.len());
        Err(format!(
            "subscriber {name} never catches up: {places:?}, {asked:?}{last}"
        ))
    }

    /// Whether everything a subscriber asked for is settled up to its end or the tail.
    pub(super) fn is_done(&self, reader: &Reader) -> bool {
        let asked = reader.asked.iter();
        let mut feeds = asked.flat_map(|(id, selector)| {
            let feeds = feeds_of(selector, &self.world.truth).into_iter();
            feeds.map(move |feed| (*id, feed))
        });
        feeds.all(|(id, feed)| self.is_settled(reader, id, &feed))
    }

    fn is_settled(&self, reader: &Reader, id: u32, feed: &str) -> bool {
        let Some(life) = self.world.truth.present(feed) else {
            return true;
        };
        let place = reader.places.get(&(id, feed.to_owned()));
        let selector = &reader.asked[&id];
        let end = match (place, selector.end.as_ref().and_then(|end| end.at.as_ref())) {
            (Some(place), _) => place.end,
            // One that joins.
            (None, None) => Ends::Never,
            (None, Some(v1::end::At::IngestTimeUnixNanos(time))) => Ends::IngestTime(*time),
            (None, Some(v1::end::At::Now(_) | v1::end::At::Offset(_))) => return true,
        };
        let lane = reader.ledger.lane(id, feed);
        // Of one that was not heard of yet, a ledger knows what the request said.
        let next = lane
            .and_then(|lane| lane.next())
            .filter(|next| next.epoch != 0);
        match (next, place.map(|place| place.begin)) {
            // A feed that is created when that time is over does not join any more.
            (None, None) if end != Ends::Never => true,
            (Some(next), Some(select::Begin::Elsewhere(_)))
                if !reader.heard.contains(&(id, feed.to_owned())) =>
            {
                // By the time of a resume the feed had grown that far, and the end was over.
                end.is_reached(life, next.offset)
            }
            (Some(next), _) if next.epoch == life.epoch => end.is_reached(life, next.offset),
            (Some(next), _) => {
                let before = self.world.truth.life(feed, next.epoch);
                let ended = before.is_some_and(|life| end.is_reached(life, next.offset));
                end != Ends::Never && ended
            }
            (None, Some(select::Begin::At(begin))) => {
                end != Ends::Never && end.is_reached(life, begin.offset)
            }
            // So had it, and nobody was told anything.
            (None, Some(select::Begin::Elsewhere(wanted))) => {
                let is_here = wanted.epoch == life.epoch && wanted.offset <= life.bounds.tail;
                is_here && end != Ends::Never && end.is_reached(life, wanted.offset)
            }
            (None, _) => false,
        }
    }
}
