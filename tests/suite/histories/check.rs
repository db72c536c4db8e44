//! What a subscriber was told, from beginning to end, against the truth.

use std::collections::BTreeMap;

use ringfeed::{
    client::Reopened,
    proto::v1::{self, subscribe_response::Event},
};
use tokio::time::Instant;

use super::{
    lane::{Lane, Verdict},
    model::Truth,
    reader::{Entry, Reader},
    select::{Begin, Ends, Place, follows},
    tally::Tally,
};

/// What a subscriber's log comes to.
struct Check<'t> {
    truth: &'t Truth,
    selectors: BTreeMap<u32, v1::Selector>,
    lanes: BTreeMap<(u32, String), Lane>,
    tally: &'t mut Tally,
}

/// Goes through a subscriber's log.
pub(super) fn check(reader: &Reader, truth: &Truth, tally: &mut Tally) -> Verdict {
    let mut check = Check {
        truth,
        selectors: BTreeMap::new(),
        lanes: BTreeMap::new(),
        tally,
    };
    for (nth, entry) in reader.log.iter().enumerate() {
        let verdict = check.enter(entry);
        verdict.map_err(|fault| {
            let name = &reader.name;
            format!(
                "subscriber {name}, entry {nth}: {fault}{}",
                before(reader, nth)
            )
        })?;
    }
    Ok(())
}

/// The last entries before a fault, in short.
pub(super) fn before(reader: &Reader, nth: usize) -> String {
    let entries = &reader.log[nth.saturating_sub(6)..reader.log.len().min(nth + 1)];
    let lines: Vec<_> = entries
        .iter()
        .map(|entry| format!("\n  {}", short(entry)))
        .collect();
    lines.concat()
}

fn short(entry: &Entry) -> String {
    let mut text = match entry {
        Entry::Said {
            response, bounds, ..
        } => {
            let mut response = response.clone();
            response.padding.clear();
            if let Some(Event::Heartbeat(heartbeat)) = &mut response.event {
                heartbeat.resume_token.clear();
            }
            if let Some(Event::Records(batch)) = &mut response.event {
                batch.records.clear();
            }
            format!("{:?} {bounds:?}", response)
        }
        entry => format!("{entry:?}"),
    };
    let cut = text
        .char_indices()
        .nth(600)
        .map_or(text.len(), |(at, _)| at);
    text.truncate(cut);
    text
}

impl Check<'_> {
    fn enter(&mut self, entry: &Entry) -> Verdict {
        match entry {
            Entry::Began {
                id,
                selector,
                places,
                at,
            } => self.begin(*id, selector, places, *at),
            Entry::Reopened { how, at } => {
                let may_repeat = *how == Reopened::AtOrBefore;
                let lanes = self.lanes.values_mut();
                lanes.for_each(|lane| lane.reopened(may_repeat, *at));
            }
            Entry::Changed { id, change, at } => {
                if let Some(selector) = self.selectors.get_mut(id) {
                    selector.fidelity = change.fidelity.or(selector.fidelity);
                    selector.slow_policy = change.slow_policy.or(selector.slow_policy);
                }
                let of = self.lanes.iter_mut().filter(|((of, _), _)| of == id);
                of.for_each(|(_, lane)| lane.change(change, *at));
            }
            Entry::Removed { id } => {
                self.selectors.remove(id);
                self.lanes.retain(|(of, _), _| of != id);
            }
            Entry::Ended(ended) => {
                self.tally.count("selectors ended", 1);
                return self.end(ended);
            }
            Entry::Said {
                response,
                bounds,
                at,
            } => return self.say(response, *bounds, *at),
        }
        Ok(())
    }

    fn begin(&mut self, id: u32, selector: &v1::Selector, places: &[Place], at: Instant) {
        self.lanes.retain(|(of, _), _| *of != id);
        self.selectors.insert(id, selector.clone());
        for place in places {
            let lane = Lane::new(selector, place, at);
            self.lanes.insert((id, place.feed.clone()), lane);
        }
    }

    /// At its end, or its feed is gone.
    fn end(&mut self, ended: &v1::SelectorEnded) -> Verdict {
        let of = |lane: &&(u32, String)| lane.0 == ended.selector_id;
        let lanes = self.lanes.iter().filter(|(lane, _)| of(lane));
        for (_, lane) in lanes {
            lane.ended(&ended.reason, self.truth)?;
        }
        Ok(())
    }

    fn say(
        &mut self,
        response: &v1::SubscribeResponse,
        bounds: Option<ringfeed::model::Bounds>,
        now: Instant,
    ) -> Verdict {
        let event = response.event.as_ref().ok_or("an empty response")?;
        self.tally.count("messages", 1);
        let Some(feed) = feed(event) else {
            return Ok(());
        };
        self.join(response.selector, feed, now)?;
        let of = (response.selector, feed.to_owned());
        let lane = self.lanes.get_mut(&of).ok_or("of no selector")?;
        let truth = self.truth;
        match event {
            Event::Records(batch) => {
                self.tally.count("records", batch.records.len() as u64);
                lane.records(batch, truth, now)
            }
            Event::Bars(batch) => {
                self.tally.count("bars", batch.bars.len() as u64);
                lane.bars(batch, truth)
            }
            Event::Snapshot(batch) => lane.snapshot(batch),
            Event::SnapshotComplete(done) => {
                self.tally.count("snapshots", 1);
                lane.snapshot_complete(done.as_of.as_ref().ok_or("no place")?, truth)
            }
            Event::Gap(gap) => {
                self.tally.count(gap_name(gap.reason()), 1);
                lane.gap(gap, bounds, truth, now)
            }
            Event::CaughtUp(caught_up) => {
                let next = caught_up.next.as_ref().ok_or("no place")?;
                lane.caught_up(next, truth, self.tally)
            }
            Event::ModeChanged(change) => {
                self.tally.count("modes changed by slowness", 1);
                lane.mode_changed(change, now)
            }
            Event::Heartbeat(heartbeat) if !heartbeat.acknowledged => {
                let place = heartbeat.cursor.as_ref().ok_or("no place")?;
                if matches!(lane.begin(), Begin::Snapshot(_) | Begin::Elsewhere(_))
                    && lane.at.is_none()
                {
                    return Ok(());
                }
                lane.stands_at(place, truth)
            }
            Event::Narrowed(_) => Err("it may see everything".into()),
            Event::Heartbeat(_) | Event::KeyInfo(_) | Event::Reconnect(_) => Ok(()),
        }
    }

    /// A feed that a selector's globs find joins it when the server first speaks of it.
    fn join(&mut self, id: u32, feed: &str, now: Instant) -> Verdict {
        if self.lanes.contains_key(&(id, feed.to_owned())) {
            return Ok(());
        }
        let selector = self.selectors.get(&id).ok_or("no such selector")?;
        if selector.feed_globs.is_empty() || !follows(selector, feed) {
            return Err(format!("{feed} is not of {selector:?}"));
        }
        self.tally.count("joins", 1);
        let end = match selector.end.as_ref().and_then(|end| end.at.as_ref()) {
            Some(v1::end::At::IngestTimeUnixNanos(time)) => Ends::IngestTime(*time),
            Some(v1::end::At::Now(_) | v1::end::At::Offset(_)) | None => Ends::Never,
        };
        let place = Place {
            feed: feed.to_owned(),
            begin: Begin::Joining,
            pick: None,
            end,
        };
        let lane = Lane::new(selector, &place, now);
        self.lanes.insert((id, feed.to_owned()), lane);
        Ok(())
    }
}

/// The feed a message speaks of.
fn feed(event: &Event) -> Option<&str> {
    let place = match event {
        Event::Records(batch) => return Some(&batch.feed),
        Event::Bars(batch) => return Some(&batch.feed),
        Event::Snapshot(batch) => return Some(&batch.feed),
        Event::Gap(gap) => return Some(&gap.feed),
        Event::Narrowed(narrowed) => return Some(&narrowed.feed),
        Event::KeyInfo(_) | Event::Reconnect(_) => None,
        Event::SnapshotComplete(done) => done.as_of.as_ref(),
        Event::CaughtUp(caught_up) => caught_up.next.as_ref(),
        Event::Heartbeat(heartbeat) => heartbeat.cursor.as_ref(),
        Event::ModeChanged(change) => change.at.as_ref(),
    };
    place.map(|place| place.feed.as_str())
}

fn gap_name(reason: v1::GapReason) -> &'static str {
    match reason {
        v1::GapReason::Unspecified => "gaps without a reason",
        v1::GapReason::Evicted => "gaps EVICTED",
        v1::GapReason::Trimmed => "gaps TRIMMED",
        v1::GapReason::Jumped => "gaps JUMPED",
        v1::GapReason::Lost => "gaps LOST",
        v1::GapReason::Corrupt => "gaps CORRUPT",
        v1::GapReason::EpochChanged => "gaps EPOCH_CHANGED",
    }
}
