//! Follows feeds and resumes by itself, from behind what it handed out. Every response passes the
//! ledger: a range that does not follow the last one is an error, never a silent skip.

mod resume;

use std::time::Duration;

use prost_types::Duration as WireDuration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

pub(super) use self::resume::{Tokens, go_on, outdates_tokens};
use super::{
    Broken, Connection, Event, Ledger, RetryOptions,
    event::{self, is_progress},
    retry::{Patience, Retry, hidden, retry},
};
use crate::{
    model::Cursor,
    proto::v1::{self, subscribe_response::Event as Wire},
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a server may take to end a stream after it said so.
pub(super) const LEAVE: Duration = Duration::from_secs(5);

/// Where a selector stands in a feed after what was handed out.
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
    /// The server ended the stream and wants somebody to look first: the subscriber is too slow
    /// (SLOW_SUBSCRIBER), or somebody took its place. Whoever calls `next` again goes on with the
    /// token, and so can another subscription.
    #[error("{}", .status.message())]
    Dismissed {
        status: Status,
        resume_token: String,
    },
    /// The server broke its promise; what it sent was not handed out.
    #[error("the server broke the order of the feed: {0}")]
    Broken(#[from] Broken),
    /// The server refused a command of a session; everything else goes on.
    #[error("{message} ({reason})")]
    Refused { reason: String, message: String },
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
        /// The server said why it is about to end the stream.
        leaving: Option<String>,
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
    /// Nothing is sent before the first `next`.
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
        Ok(Self {
            patience: connection.patience(retry),
            connection,
            ledger: Ledger::new(&request.selectors),
            state: State::Closed(None),
            token: None,
            ends: Ends::Unresolved,
            idle: idle(request.heartbeat_interval.as_ref()),
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
                State::Open {
                    stream, leaving, ..
                } => {
                    let patience = match leaving {
                        Some(_) => LEAVE,
                        None => self.idle,
                    };
                    let message = timeout(patience, stream.message()).await;
                    match message.unwrap_or_else(|_elapsed| Err(silent(patience))) {
                        Ok(Some(response)) => {
                            if let Some(event) = self.take(response)? {
                                return Ok(Some(event));
                            }
                        }
                        Ok(None) if leaving.is_none() && self.at_end() => {
                            self.state = State::Ended;
                        }
                        Ok(None) => return self.broke(ended_early()).map(Some),
                        Err(status) => return self.broke(status).map(Some),
                    }
                }
            }
        }
    }

    /// Where each selector stands in each of its feeds, as far as the server told.
    pub fn cursors(&self) -> Vec<SelectorCursor> {
        let lanes = self.ledger.lanes();
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
        let (request, reopened) = self.resumed();
        let mut client = self.connection.feed();
        let call = timeout(self.idle, client.subscribe(request)).await;
        match call.unwrap_or_else(|_elapsed| Err(silent(self.idle))) {
            Ok(response) => {
                self.ledger.reopened(reopened);
                if self.tokens() == Tokens::OfReconnect {
                    self.token = None;
                }
                self.state = State::Open {
                    stream: Box::new(response.into_inner()),
                    endpoint,
                    leaving: None,
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

    async fn resolve_ends(&mut self) -> Result<(), Status> {
        let mut request = self.request.clone();
        for selector in &mut request.selectors {
            let Some(end) = selector.end.as_mut().and_then(|end| end.at.as_mut()) else {
                continue;
            };
            // Of several feeds only the server's token knows.
            if matches!(end, v1::end::At::Now(_)) && selector.feed_globs.is_empty() {
                match next_offset(&self.connection, &selector.feed).await {
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

    /// Every selector stands at its end, as far as that can be told.
    fn at_end(&self) -> bool {
        let mut selectors = (0..).zip(&self.request.selectors);
        selectors.all(|(id, selector)| {
            match selector.end.as_ref().and_then(|end| end.at.as_ref()) {
                None => false,
                Some(v1::end::At::Offset(end)) => {
                    let mut places = self.ledger.of(id).filter_map(|lane| lane.next());
                    places.all(|next| next.offset >= *end)
                }
                Some(v1::end::At::Now(_) | v1::end::At::IngestTimeUnixNanos(_)) => true,
            }
        })
    }

    /// The stream failed: an error, or an event that says when it goes on.
    fn broke(&mut self, status: Status) -> Result<Event, SubscribeError> {
        let (endpoint, leaving) = match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Open {
                endpoint, leaving, ..
            } => (Some(endpoint), leaving),
            State::Closed(_) | State::Ended => (None, None),
        };
        if let Some(reason) = leaving {
            return self.left(reason, status);
        }
        if let Some(endpoint) = endpoint.filter(|_| status.code() == Code::Unavailable) {
            self.connection.fail_over(&endpoint);
        }
        // A refused token is no refusal of what we ask for: our own cursors remain.
        let spent = self.token.is_some()
            && retry(&status) == Retry::Never
            && status.code() != Code::Unauthenticated;
        if spent {
            self.token = None;
        }
        let delay = if self.has_lost_its_place() || is_dismissal(&status) {
            None
        } else if spent {
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

    /// The stream ended as the server had said.
    fn left(&mut self, reason: String, status: Status) -> Result<Event, SubscribeError> {
        if status.code() == Code::Aborted || is_dismissal(&status) {
            return Err(SubscribeError::Dismissed {
                status,
                resume_token: self.token.clone().unwrap_or_default(),
            });
        }
        let now = std::time::Instant::now();
        if status.code() == Code::Unauthenticated {
            // With another token, from the same place.
            return match self.patience.failed(&status, now) {
                Some(delay) => Ok(self.pause(reason, delay)),
                None => Err(SubscribeError::Dismissed {
                    status,
                    resume_token: self.token.clone().unwrap_or_default(),
                }),
            };
        }
        let delay = self.patience.failed(&Status::unavailable(""), now);
        Ok(self.pause(reason, delay.unwrap_or_default()))
    }

    fn has_moved(&self) -> bool {
        !self.cursors().is_empty()
    }

    fn pause(&mut self, reason: String, delay: Duration) -> Event {
        self.state = State::Closed(Some(Instant::now() + delay));
        Event::Disconnected { reason, delay }
    }

    /// Enters a response and turns it into an event, if it says anything new.
    fn take(&mut self, response: v1::SubscribeResponse) -> Result<Option<Event>, SubscribeError> {
        let fresh = match self.ledger.observe(&response) {
            Ok(fresh) => fresh,
            Err(broken) => {
                self.state = State::Ended;
                return Err(broken.into());
            }
        };
        let unknown = SubscribeError::Request("a response without an event passed the ledger");
        let wire = response.event.ok_or(unknown)?;
        self.keep_token(&wire);
        if is_progress(&wire) {
            self.patience.progress();
        }
        if let (Wire::Reconnect(reconnect), State::Open { leaving, .. }) = (&wire, &mut self.state)
        {
            *leaving = Some(reconnect.reason.clone());
        }
        Ok(event::event(response.selector, wire, fresh))
    }
}

/// The offset that a feed's next record gets.
pub(super) async fn next_offset(connection: &Connection, feed: &str) -> Result<u64, Status> {
    let answer = connection.call(|mut catalog, _| {
        let name = feed.to_owned();
        async move { catalog.get_feed(v1::GetFeedRequest { name }).await }
    });
    Ok(answer.await?.feed.unwrap_or_default().next)
}

/// The longest silence of a stream that lives.
pub(super) fn idle(heartbeat_interval: Option<&WireDuration>) -> Duration {
    let heartbeat = heartbeat_interval.and_then(|wire| Duration::try_from(*wire).ok());
    heartbeat.unwrap_or(HEARTBEAT) * 3 + Duration::from_secs(5)
}

/// Whether a server sends us away until somebody has looked.
pub(super) fn is_dismissal(status: &Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason);
    reason.as_deref() == Some("SLOW_SUBSCRIBER")
}

pub(super) fn silent(idle: Duration) -> Status {
    Status::unavailable(format!("nothing came for {idle:?}, not even a heartbeat"))
}

pub(super) fn ended_early() -> Status {
    Status::unavailable("the server ended the stream before its end")
}

#[cfg(test)]
mod tests;
