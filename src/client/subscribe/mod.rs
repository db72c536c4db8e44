//! Follows feeds and resumes by itself, from behind what it handed out. Every response passes the
//! ledger: a range that does not follow the last one is an error, never a silent skip.

use std::time::Duration;

use bytes::Bytes;
use prost_types::Duration as WireDuration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use super::{
    Broken, Connection, GapEntry, Ledger, RetryOptions,
    ledger::cursor,
    retry::{Patience, Retry, hidden, retry},
};
use crate::{
    model::{Cursor, Span},
    proto::v1::{self, subscribe_response::Event as Wire},
};

const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a subscription hands out.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records in offset order, encoded. Empty when only `covers` moved on.
    Records {
        selector: u32,
        feed: String,
        epoch: u64,
        covers: Span,
        records: Vec<Bytes>,
    },
    /// Records that will not come.
    Gap {
        selector: u32,
        feed: String,
        gap: GapEntry,
    },
    /// The selector has seen everything before `next`.
    CaughtUp {
        selector: u32,
        feed: String,
        next: Cursor,
    },
    Heartbeat {
        selector: u32,
        heartbeat: v1::Heartbeat,
    },
    KeyInfo(v1::KeyInfoUpdate),
    Bars {
        selector: u32,
        batch: v1::BarBatch,
    },
    Snapshot {
        selector: u32,
        batch: v1::SnapshotBatch,
    },
    SnapshotComplete {
        selector: u32,
        as_of: Cursor,
    },
    ModeChanged {
        selector: u32,
        change: v1::ModeChanged,
    },
    /// The stream broke; the next call of `next` waits and goes on where this one stopped.
    Disconnected {
        reason: String,
        delay: Duration,
    },
}

/// Where a selector stands after what was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorCursor {
    pub selector: u32,
    pub feed: String,
    pub cursor: Cursor,
}

#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    #[error("{0}")]
    Status(Status),
    /// The server broke its promise; what it sent was not handed out.
    #[error("the server broke the order of the feed: {0}")]
    Broken(#[from] Broken),
    #[error("{0}")]
    Request(&'static str),
}

/// A followed set of selectors.
#[derive(Debug)]
pub struct Subscription {
    connection: Connection,
    request: v1::SubscribeRequest,
    ledger: Ledger,
    state: State,
    patience: Patience,
    /// Resumes exactly here; dropped as soon as it served or was refused.
    token: Option<String>,
    ends: Ends,
    idle: Duration,
}

#[derive(Debug)]
enum State {
    /// Opens at this time.
    Closed(Option<Instant>),
    Open {
        stream: Box<Streaming<v1::SubscribeResponse>>,
        endpoint: String,
    },
    Ended,
}

/// Whether `end = now` was turned into an offset, so that a reconnect ends at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Unresolved,
    Resolved,
    /// The server does not tell us where the feed ends.
    Hidden,
}

impl Subscription {
    /// Nothing is sent before the first `next`. `request` needs selectors that name one feed each.
    pub fn new(
        connection: Connection,
        request: v1::SubscribeRequest,
        retry: RetryOptions,
    ) -> Result<Self, SubscribeError> {
        if request.selectors.is_empty() || !request.resume_token.is_empty() {
            return Err(SubscribeError::Request(
                "a subscription begins with selectors, not with a resume token",
            ));
        }
        if request.selectors.iter().any(|s| !s.feed_globs.is_empty()) {
            return Err(SubscribeError::Request(
                "this client follows feeds by name, not by glob",
            ));
        }
        let heartbeat = request
            .heartbeat_interval
            .as_ref()
            .map_or(HEARTBEAT, std_duration);
        Ok(Self {
            patience: Patience::new(retry, connection.endpoints()),
            connection,
            ledger: Ledger::new(&request.selectors),
            state: State::Closed(None),
            token: None,
            ends: Ends::Unresolved,
            idle: heartbeat * 3 + Duration::from_secs(5),
            request,
        })
    }

    /// The next event; `None` when all selectors reached their end. Can be cancelled.
    pub async fn next(&mut self) -> Result<Option<Event>, SubscribeError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Closed(at) => {
                    if let Some(at) = *at {
                        sleep_until(at).await;
                    }
                    if let Err(status) = self.open().await {
                        return self.broke(status).map(Some);
                    }
                }
                State::Open { stream, .. } => {
                    let message = timeout(self.idle, stream.message()).await;
                    match message.unwrap_or_else(|_elapsed| Err(silent(self.idle))) {
                        Ok(Some(response)) => return self.take(response).map(Some),
                        Ok(None) if self.at_end() => self.state = State::Ended,
                        Ok(None) => return self.broke(ended_early()).map(Some),
                        Err(status) => return self.broke(status).map(Some),
                    }
                }
            }
        }
    }

    /// Where each selector stands, as far as the server told.
    pub fn cursors(&self) -> Vec<SelectorCursor> {
        let lanes = (0_u32..).zip(self.ledger.lanes());
        lanes
            .filter_map(|(selector, lane)| {
                Some(SelectorCursor {
                    selector,
                    feed: lane.feed().to_owned(),
                    cursor: lane.next()?,
                })
            })
            .collect()
    }

    /// The account of everything handed out.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn open(&mut self) -> Result<(), Status> {
        if self.ends == Ends::Unresolved {
            self.resolve_ends().await?;
        }
        let endpoint = self.connection.endpoint().to_owned();
        let request = match &self.token {
            Some(token) => v1::SubscribeRequest {
                selectors: Vec::new(),
                resume_token: token.clone(),
                ..self.request.clone()
            },
            None => self.resumed(),
        };
        let mut client = self.connection.feed();
        let call = timeout(self.idle, client.subscribe(request)).await;
        match call.unwrap_or_else(|_elapsed| Err(silent(self.idle))) {
            Ok(response) => {
                self.token = None;
                self.state = State::Open {
                    stream: Box::new(response.into_inner()),
                    endpoint,
                };
                Ok(())
            }
            Err(status) if status.code() == Code::Unavailable => {
                self.connection.fail_over(&endpoint);
                Err(status)
            }
            Err(status) => Err(status),
        }
    }

    /// The request from where we stand.
    fn resumed(&self) -> v1::SubscribeRequest {
        let mut request = self.request.clone();
        for (selector, lane) in request.selectors.iter_mut().zip(self.ledger.lanes()) {
            if let Some(next) = lane.next() {
                selector.start = Some(v1::Start {
                    from: Some(v1::start::From::Cursor(v1::Cursor {
                        feed: selector.feed.clone(),
                        epoch: next.epoch,
                        offset: next.offset,
                    })),
                });
            }
        }
        request
    }

    async fn resolve_ends(&mut self) -> Result<(), Status> {
        let mut request = self.request.clone();
        for selector in &mut request.selectors {
            let Some(end) = selector.end.as_mut().and_then(|end| end.at.as_mut()) else {
                continue;
            };
            if matches!(end, v1::end::At::Now(_)) {
                match self.next_offset(&selector.feed).await {
                    Ok(next) => *end = v1::end::At::Offset(next),
                    Err(status) if hidden(&status) => {
                        self.ends = Ends::Hidden;
                        return Ok(());
                    }
                    Err(status) => return Err(status),
                }
            }
        }
        self.request = request;
        self.ends = Ends::Resolved;
        Ok(())
    }

    async fn next_offset(&self, feed: &str) -> Result<u64, Status> {
        let answer = self.connection.call(|mut catalog, _| {
            let name = feed.to_owned();
            async move { catalog.get_feed(v1::GetFeedRequest { name }).await }
        });
        Ok(answer.await?.feed.unwrap_or_default().next)
    }

    /// Every selector stands at its end, as far as that can be told.
    fn at_end(&self) -> bool {
        let mut selectors = self.request.selectors.iter().zip(self.ledger.lanes());
        selectors.all(|(selector, lane)| {
            match selector.end.as_ref().and_then(|end| end.at.as_ref()) {
                None => false,
                Some(v1::end::At::Offset(end)) => {
                    lane.next().is_none_or(|next| next.offset >= *end)
                }
                Some(v1::end::At::Now(_) | v1::end::At::IngestTimeUnixNanos(_)) => true,
            }
        })
    }

    /// The stream failed: an error, or an event that says when it goes on.
    fn broke(&mut self, status: Status) -> Result<Event, SubscribeError> {
        let endpoint = match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Open { endpoint, .. } => Some(endpoint),
            State::Closed(_) | State::Ended => None,
        };
        if let Some(endpoint) = endpoint.filter(|_| status.code() == Code::Unavailable) {
            self.connection.fail_over(&endpoint);
        }
        // A refused token is no refusal of what we ask for: our own cursors remain.
        let spent = self.token.is_some() && retry(&status) == Retry::Never;
        let delay = if spent {
            self.token = None;
            Some(Duration::ZERO)
        } else if self.ends == Ends::Hidden && self.has_moved() {
            // `now` would mean a later place this time.
            None
        } else {
            self.patience.failed(&status, std::time::Instant::now())
        };
        let Some(delay) = delay else {
            return Err(SubscribeError::Status(status));
        };
        Ok(self.pause(status.message().to_owned(), delay))
    }

    fn has_moved(&self) -> bool {
        !self.cursors().is_empty()
    }

    fn pause(&mut self, reason: String, delay: Duration) -> Event {
        self.state = State::Closed(Some(Instant::now() + delay));
        Event::Disconnected { reason, delay }
    }

    /// Enters a response and turns it into an event.
    fn take(&mut self, response: v1::SubscribeResponse) -> Result<Event, SubscribeError> {
        if let Err(broken) = self.ledger.observe(&response) {
            self.state = State::Ended;
            return Err(broken.into());
        }
        let selector = response.selector;
        let unknown = SubscribeError::Request("a response without an event passed the ledger");
        Ok(match response.event.ok_or(unknown)? {
            Wire::Records(batch) => {
                self.patience.progress();
                records(selector, batch)
            }
            Wire::Gap(gap) => {
                self.patience.progress();
                self.gap(selector, gap)
            }
            Wire::CaughtUp(caught_up) => {
                self.patience.progress();
                self.caught_up(selector, &caught_up)
            }
            Wire::Heartbeat(heartbeat) => Event::Heartbeat {
                selector,
                heartbeat,
            },
            Wire::KeyInfo(update) => Event::KeyInfo(update),
            Wire::Bars(batch) => Event::Bars { selector, batch },
            Wire::Snapshot(batch) => Event::Snapshot { selector, batch },
            Wire::SnapshotComplete(done) => Event::SnapshotComplete {
                selector,
                as_of: cursor(&done.as_of.unwrap_or_default()),
            },
            Wire::ModeChanged(change) => Event::ModeChanged { selector, change },
            Wire::Reconnect(reconnect) => self.reconnect(reconnect),
        })
    }

    fn gap(&self, selector: u32, gap: v1::Gap) -> Event {
        let oldest = gap.oldest.as_ref().map(cursor);
        Event::Gap {
            selector,
            gap: GapEntry {
                epoch: gap.epoch,
                span: Span::new(gap.from, gap.to),
                count: gap.count,
                reason: super::ledger::reason(gap.reason())
                    .unwrap_or(crate::model::GapReason::Lost),
                oldest,
            },
            feed: gap.feed,
        }
    }

    fn caught_up(&self, selector: u32, caught_up: &v1::CaughtUp) -> Event {
        let next = caught_up.next.clone().unwrap_or_default();
        Event::CaughtUp {
            selector,
            next: cursor(&next),
            feed: next.feed,
        }
    }

    fn reconnect(&mut self, reconnect: v1::Reconnect) -> Event {
        self.token = Some(reconnect.resume_token).filter(|token| !token.is_empty());
        let status = Status::unavailable("");
        let delay = self
            .patience
            .failed(&status, std::time::Instant::now())
            .unwrap_or_default();
        self.pause(reconnect.reason, delay)
    }
}

fn records(selector: u32, batch: v1::RecordBatch) -> Event {
    let covers = batch.covers.unwrap_or_default();
    Event::Records {
        selector,
        feed: batch.feed,
        epoch: batch.epoch,
        covers: Span::new(covers.from, covers.to),
        records: batch.records,
    }
}

fn std_duration(wire: &WireDuration) -> Duration {
    Duration::try_from(*wire).unwrap_or(HEARTBEAT)
}

fn silent(idle: Duration) -> Status {
    Status::unavailable(format!("nothing came for {idle:?}, not even a heartbeat"))
}

fn ended_early() -> Status {
    Status::unavailable("the server ended the stream before its end")
}

#[cfg(test)]
mod tests;
