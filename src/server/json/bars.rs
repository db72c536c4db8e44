//! Bars of what the ring has: history for charts, the bar in progress included.

use std::collections::BTreeMap;

use serde_json::Value;
use tonic::Status;

use super::{
    Answer,
    asked::{Asked, ended_early, in_bars, invalid},
    carrier::Carrier,
    catalog::Fields,
    latest::event,
    live::gap_value,
    text,
};
use crate::{
    model::UnixNanos,
    proto::{
        json::bar_to_json,
        place::FromPlace,
        v1::{self, end::At, start::From, subscribe_response::Event},
    },
};

/// Of an answer, which is put together in memory: a later revision replaces an earlier one.
const MAX_BARS: usize = 20_000;

pub(super) async fn bars(
    carrier: Carrier,
    feed: String,
    mut asked: Asked,
) -> Result<Answer, Status> {
    let interval = asked.duration("interval")?;
    let interval =
        interval.ok_or_else(|| invalid("interval", "is missing; write for instance 1m"))?;
    let from: Option<FromPlace> = asked.parsed("from")?;
    let from = from.map_or(From::Earliest(v1::Earliest {}), |FromPlace(from)| from);
    let mut found = Found::new(feed.clone(), &from, asked.time("to")?);
    let end = v1::End {
        at: Some(At::Now(v1::Now {})),
    };
    let selector = v1::Selector {
        end: Some(end),
        fidelity: Some(in_bars(interval, true)),
        ..asked.selector(feed, from)
    };
    asked.done("key, not_key, interval, from, to")?;
    let request = v1::SubscribeRequest {
        selectors: vec![selector],
        ..v1::SubscribeRequest::default()
    };
    let (metadata, mut stream, _) = carrier.feeds().subscribe(request).await?.into_parts();
    while let Some(event) = event(&mut stream).await? {
        found.take(event)?;
    }
    Ok(Answer::json(metadata, text(&found.into())))
}

/// Start, key, source and channel: what makes two bars the same one.
type Identity = (UnixNanos, String, i32, Option<u32>);

struct Found {
    feed: String,
    epoch: u64,
    /// Bars that end then or earlier are not wanted: behind the first record of that time there can be
    /// records of earlier ones.
    from: Option<UnixNanos>,
    /// Bars that start then or later are not wanted.
    to: Option<UnixNanos>,
    bars: BTreeMap<Identity, v1::ViewBar>,
    gaps: Vec<Value>,
    narrowed: Vec<String>,
}

impl Found {
    fn new(feed: String, from: &From, to: Option<UnixNanos>) -> Self {
        let by_event = |time: &&v1::TimeStart| time.clock() != v1::Clock::Ingest;
        let from = match from {
            From::Time(time) => Some(time).filter(by_event).map(|time| time.unix_nanos),
            From::Offset(_)
            | From::Cursor(_)
            | From::Earliest(_)
            | From::New(_)
            | From::LastPerKey(_)
            | From::Snapshot(_)
            | From::NamedCursor(_) => None,
        };
        Self {
            feed,
            epoch: 0,
            from,
            to,
            bars: BTreeMap::new(),
            gaps: vec![],
            narrowed: vec![],
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Bars(batch) => {
                self.epoch = batch.epoch;
                for bar in batch.bars {
                    self.bar(bar);
                }
                if self.bars.len() > MAX_BARS {
                    let what = format!(
                        "makes more than {MAX_BARS} bars: ask for longer ones, fewer keys, or a later `from`"
                    );
                    return Err(invalid("interval", what));
                }
            }
            Event::Gap(gap) => self.gaps.push(gap_value(&gap)),
            Event::CaughtUp(caught_up) => self.epoch = caught_up.next.unwrap_or_default().epoch,
            Event::Narrowed(narrowed) => self.narrowed = narrowed.key_globs,
            Event::Reconnect(_) => return Err(ended_early()),
            Event::Records(_)
            | Event::Snapshot(_)
            | Event::SnapshotComplete(_)
            | Event::Heartbeat(_)
            | Event::ModeChanged(_)
            | Event::KeyInfo(_) => {}
        }
        Ok(())
    }

    fn bar(&mut self, bar: v1::ViewBar) {
        let Some((start, interval)) = span(&bar) else {
            return;
        };
        let wanted = self
            .from
            .is_none_or(|from| start.saturating_add(interval) > from)
            && self.to.is_none_or(|to| start < to);
        if wanted {
            let channel = bar.reading.as_ref().and_then(|bar| bar.channel);
            let identity = (start, bar.key.clone(), bar.source, channel);
            self.bars.insert(identity, bar);
        }
    }
}

/// Start and length, nanoseconds.
fn span(bar: &v1::ViewBar) -> Option<(UnixNanos, i64)> {
    match (&bar.bar, &bar.reading) {
        (Some(bar), _) => Some((bar.start_unix_nanos?, bar.interval_nanos?)),
        (None, Some(bar)) => Some((bar.start_unix_nanos, bar.interval_nanos)),
        (None, None) => None,
    }
}

impl std::convert::From<Found> for Value {
    fn from(found: Found) -> Self {
        let bars = found.bars.values();
        let bars = bars.map(|bar| bar_to_json(&found.feed, found.epoch, bar));
        let bars: Vec<Self> = bars.collect();
        let mut fields = Fields::default();
        fields.set("feed", found.feed);
        fields.set("epoch", found.epoch.to_string());
        if !found.narrowed.is_empty() {
            fields.set("narrowed_to", found.narrowed);
        }
        if !found.gaps.is_empty() {
            fields.set("gaps", found.gaps);
        }
        fields.set("bars", bars);
        fields.into()
    }
}
