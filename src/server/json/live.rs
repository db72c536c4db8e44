//! A feed as server-sent events. Records and bars are events without a name, so `onmessage` has them;
//! what else a stream says has a name. The `id` of an event is the place behind it: `Last-Event-ID`
//! goes on there, which browsers do by themselves. An event that could not be gone on from without
//! loss has none, and then the one before it counts.

use std::fmt::Write as _;

use async_stream::stream;
use axum::body::{Body, Bytes};
use http::HeaderMap;
use serde_json::Value;
use tonic::{Status, Streaming};

use super::{
    Answer, EVENTS,
    asked::{Asked, conflated, in_bars, invalid},
    carrier::Carrier,
    catalog::{Fields, info_value, seconds},
    failure,
    latest::{event, record_value},
    place::Place,
};
use crate::proto::{
    json::bar_to_json,
    place::FromPlace,
    v1::{self, GapReason, fidelity::View, start::From, subscribe_response::Event},
};

/// Where a browser that was cut off goes on.
const LAST_EVENT_ID: &str = "last-event-id";
/// How long it waits before that.
const RETRY: &str = "retry: 1000\n\n";

pub(super) async fn live(
    carrier: Carrier,
    feed: String,
    mut asked: Asked,
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let conflate = asked.duration("conflate")?.map(conflated);
    let open = asked.parsed("open")?.unwrap_or(false);
    let include_info = asked.parsed("info")?.unwrap_or(false);
    let bars = asked.duration("bars")?.map(|bars| in_bars(bars, open));
    if conflate.is_some() && bars.is_some() {
        return Err(invalid("bars", "does not go with conflate"));
    }
    let fidelity = conflate.or(bars);
    let from = start(&feed, &mut asked, headers, fidelity.as_ref())?;
    let teller = Teller::new(&from, fidelity.as_ref());
    let selector = v1::Selector {
        fidelity,
        ..asked.selector(feed, from)
    };
    asked.done("key, not_key, from, conflate, bars, open, info")?;
    let request = v1::SubscribeRequest {
        selectors: vec![selector],
        include_info,
        ..v1::SubscribeRequest::default()
    };
    let (metadata, mut stream, _) = carrier.feeds().subscribe(request).await?.into_parts();
    // What is refused at once is a status; what fails later is an event.
    let first = event(&mut stream).await?;
    Ok(Answer {
        content_type: EVENTS,
        metadata,
        body: Body::from_stream(events(teller, first, stream)),
    })
}

/// Where the last event left off; else what the address says; else the latest of each key.
fn start(
    feed: &str,
    asked: &mut Asked,
    headers: &HeaderMap,
    fidelity: Option<&v1::Fidelity>,
) -> Result<From, Status> {
    let asked_for = asked.one("from")?;
    let last = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    if let Some(id) = last {
        let place = id.to_str().ok().and_then(|id| id.parse::<Place>().ok());
        let place = place.ok_or_else(|| {
            invalid(
                LAST_EVENT_ID,
                "is no id of an event of this stream; leave it out to begin anew",
            )
        })?;
        return Ok(From::Cursor(place.cursor(feed)));
    }
    if let Some(text) = asked_for {
        // A page that was loaded anew says in the address what a browser says in the header.
        if let Ok(place) = text.parse::<Place>() {
            return Ok(From::Cursor(place.cursor(feed)));
        }
        let parsed = text.parse().map_err(|error| invalid("from", error));
        return parsed.map(|FromPlace(from)| from);
    }
    Ok(match fidelity.and_then(|fidelity| fidelity.view.as_ref()) {
        // The latest records are no bars.
        Some(View::Bars(_)) => From::New(v1::New {}),
        _ => From::Snapshot(v1::SnapshotStart {}),
    })
}

fn events(
    mut teller: Teller,
    first: Option<Event>,
    mut stream: Streaming<v1::SubscribeResponse>,
) -> impl futures_util::Stream<Item = Result<Bytes, Status>> {
    stream! {
        teller.text.push_str(RETRY);
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Some(event)) => {
                    if let Err(status) = teller.tell(event) {
                        teller.write(None, "failure", &failure::body(&status));
                        yield Ok(teller.taken());
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    teller.write(None, "failure", &failure::body(&status));
                    yield Ok(teller.taken());
                    return;
                }
            }
            yield Ok(teller.taken());
            next = event(&mut stream).await;
        }
    }
}

/// Which places can be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// None yet: the latest records, which are no part of the feed's order, are being told.
    NotYet,
    /// Behind each record.
    Each,
    /// Behind each batch: a record of a view stands for those that it replaced.
    Batches,
}

/// Writes what a stream says as events.
pub(super) struct Teller {
    ids: Ids,
    /// What `ids` are once the stream has caught up.
    later: Ids,
    text: String,
}

impl Teller {
    pub(super) fn new(from: &From, fidelity: Option<&v1::Fidelity>) -> Self {
        let later = match fidelity {
            None => Ids::Each,
            Some(_) => Ids::Batches,
        };
        let ids = match from {
            From::Snapshot(_) | From::LastPerKey(_) => Ids::NotYet,
            From::Offset(_)
            | From::Cursor(_)
            | From::Time(_)
            | From::Earliest(_)
            | From::New(_)
            | From::NamedCursor(_) => later,
        };
        Self {
            ids,
            later,
            text: String::new(),
        }
    }

    pub(super) fn taken(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.text))
    }

    pub(super) fn tell(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Records(batch) => self.records(batch)?,
            Event::Bars(batch) => self.bars(&batch),
            Event::Snapshot(batch) => self.snapshot(batch)?,
            Event::SnapshotComplete(done) => {
                self.ids = self.later;
                let as_of = done.as_of.unwrap_or_default();
                let mut fields = of_feed(&as_of.feed, as_of.epoch);
                fields.set("as_of", as_of.offset.to_string());
                self.write(Some((&as_of).into()), "snapshot_complete", &fields.into());
            }
            Event::CaughtUp(caught_up) => {
                self.ids = self.later;
                let next = caught_up.next.unwrap_or_default();
                let mut fields = of_feed(&next.feed, next.epoch);
                fields.set("next", next.offset.to_string());
                self.write(Some((&next).into()), "caught_up", &fields.into());
            }
            Event::Gap(gap) => self.write(behind(&gap), "gap", &gap_value(&gap)),
            Event::Heartbeat(heartbeat) => self.heartbeat(&heartbeat),
            Event::KeyInfo(update) => {
                let mut fields = Fields::default();
                fields.set("feed", update.feed);
                fields.set("key", update.key);
                fields.some("info", update.info.as_ref().map(info_value));
                self.write(None, "key_info", &fields.into());
            }
            Event::Narrowed(narrowed) => {
                let mut fields = Fields::default();
                fields.word("feed", &narrowed.feed);
                fields.set("narrowed_to", narrowed.key_globs);
                self.write(None, "narrowed", &fields.into());
            }
            Event::Reconnect(reconnect) => {
                let mut fields = Fields::default();
                fields.set("reason", reconnect.reason);
                self.write(None, "reconnect", &fields.into());
            }
            // Only a slow policy changes the mode, and none is asked for.
            Event::ModeChanged(_) => {}
        }
        Ok(())
    }

    /// Where each record can be gone on from, what is left out between two is told between them.
    fn records(&mut self, batch: v1::RecordBatch) -> Result<(), Status> {
        let covers = batch.covers.unwrap_or_default();
        let mut at = v1::Cursor {
            feed: batch.feed,
            epoch: batch.epoch,
            offset: covers.from,
        };
        for bytes in batch.records {
            let (offset, value) = record_value(&at, bytes)?;
            let behind = if self.ids == Ids::Each {
                self.covered(&at, offset);
                at.offset = offset + 1;
                Some(Place::from(&at))
            } else {
                None
            };
            self.write(behind, "", &value);
        }
        self.covered(&at, covers.to);
        Ok(())
    }

    fn bars(&mut self, batch: &v1::BarBatch) {
        for bar in &batch.bars {
            let value = bar_to_json(&batch.feed, batch.epoch, bar);
            self.write(None, "", &value);
        }
        let covers = batch.covers.unwrap_or_default();
        let at = v1::Cursor {
            feed: batch.feed.clone(),
            epoch: batch.epoch,
            offset: covers.from,
        };
        self.covered(&at, covers.to);
    }

    fn snapshot(&mut self, batch: v1::SnapshotBatch) -> Result<(), Status> {
        let at = batch.as_of.unwrap_or_default();
        for bytes in batch.records {
            let (_, mut value) = record_value(&at, bytes)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("snapshot".to_owned(), true.into());
            }
            self.write(None, "", &value);
        }
        Ok(())
    }

    /// Says that offsets are settled by no record of their own, if there are any.
    fn covered(&mut self, from: &v1::Cursor, to: u64) {
        if to > from.offset {
            let mut fields = of_feed(&from.feed, from.epoch);
            fields.set("from", from.offset.to_string());
            fields.set("to", to.to_string());
            let behind = Place {
                epoch: from.epoch,
                offset: to,
            };
            self.write(Some(behind), "covered", &fields.into());
        }
    }

    fn heartbeat(&mut self, heartbeat: &v1::Heartbeat) {
        let offset = |cursor: Option<&v1::Cursor>| cursor.map(|cursor| cursor.offset.to_string());
        let cursor = heartbeat.cursor.as_ref();
        let mut fields = match cursor {
            Some(cursor) => of_feed(&cursor.feed, cursor.epoch),
            None => Fields::default(),
        };
        fields.some("oldest", offset(heartbeat.oldest.as_ref()));
        fields.some("next", offset(heartbeat.next.as_ref()));
        fields.some("cursor", offset(cursor));
        fields.set("lag_records", heartbeat.lag_records.to_string());
        fields.some("lag_seconds", seconds(heartbeat.lag.as_ref()));
        fields.some("eviction_seconds", seconds(heartbeat.eviction_eta.as_ref()));
        self.write(cursor.map(Place::from), "heartbeat", &fields.into());
    }

    /// One event. JSON has no line ends of its own, and names and places have none either.
    fn write(&mut self, behind: Option<Place>, event: &str, data: &Value) {
        if !event.is_empty() {
            self.line("event", event);
        }
        if let Some(place) = behind.filter(|_| self.ids != Ids::NotYet) {
            self.line("id", place);
        }
        self.line("data", data);
        self.text.push('\n');
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.text, "{name}: {value}");
    }
}

fn of_feed(feed: &str, epoch: u64) -> Fields {
    let mut fields = Fields::default();
    fields.set("feed", feed);
    fields.set("epoch", epoch.to_string());
    fields
}

/// Where the feed goes on behind a gap.
fn behind(gap: &v1::Gap) -> Option<Place> {
    match gap.reason() {
        GapReason::EpochChanged => gap.oldest.as_ref().map(Place::from),
        GapReason::Unspecified
        | GapReason::Evicted
        | GapReason::Trimmed
        | GapReason::Jumped
        | GapReason::Lost
        | GapReason::Corrupt => Some(Place {
            epoch: gap.epoch,
            offset: gap.to,
        }),
    }
}

pub(super) fn gap_value(gap: &v1::Gap) -> Value {
    let mut fields = of_feed(&gap.feed, gap.epoch);
    fields.set("from", gap.from.to_string());
    fields.set("to", gap.to.to_string());
    fields.some("count", gap.count.map(|count| count.to_string()));
    let reason = gap.reason().as_str_name();
    let reason = reason.strip_prefix("GAP_REASON_").unwrap_or(reason);
    fields.set("reason", reason);
    if let Some(oldest) = &gap.oldest {
        fields.set("oldest", oldest.offset.to_string());
        fields.set("oldest_epoch", oldest.epoch.to_string());
    }
    fields.into()
}
