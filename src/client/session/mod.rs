//! A session: what a subscription does, with selectors that come, change and go while it runs.
//!
//! ```text
//! add, replace, remove, change, acknowledge -> pending -> the wire -> answer -> selectors, ledger
//! next <- backlog <- responses that passed the ledger <- the wire
//! ```
//! Everything is driven by whoever calls: a command reads until it is answered, and what comes before
//! the answer waits for the next call of `next`. All calls can be cancelled; a command that was, is
//! carried out all the same, and replayed after a cut until it is answered.

mod commands;
mod resume;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Status, Streaming};

use self::commands::Pending;
use super::{
    Connection, Event, Ledger, RetryOptions, SubscribeError,
    event::{self, is_progress, token},
    retry::{Patience, hidden},
    subscribe::{LEAVE, ended_early, idle, is_dismissal, next_offset, outdates_tokens, silent},
};
use crate::{
    model::Cursor,
    proto::v1::{
        self, session_request::Command, session_response::Event as Said,
        subscribe_response::Event as Wire,
    },
};

/// Events that may come before the answer of a command: far more than what is under way.
const BACKLOG_BYTES: usize = 64 << 20;

/// A session and its selectors.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    hello: v1::SessionHello,
    /// As they were asked for; those that were answered.
    selectors: BTreeMap<u32, v1::Selector>,
    ledger: Ledger,
    pending: VecDeque<Pending>,
    /// The command whose answer is waited for, and the answer.
    awaited: Option<(u64, Option<Result<(), SubscribeError>>)>,
    next_id: u64,
    backlog: VecDeque<Event>,
    backlog_bytes: usize,
    token: Option<String>,
    /// Selectors that the token does not know as they are.
    touched: BTreeSet<u32>,
    /// Selectors that the token brought back as they were, until that is put right.
    muted: BTreeSet<u32>,
    state: State,
    patience: Patience,
    idle: Duration,
}

#[derive(Debug)]
enum State {
    /// Opens at this time.
    Closed(Option<Instant>),
    Open(Box<Open>),
    /// The ledger was broken: nothing is to be trusted any more.
    Ended,
}

#[derive(Debug)]
struct Open {
    requests: mpsc::Sender<v1::SessionRequest>,
    stream: Streaming<v1::SessionResponse>,
    endpoint: String,
    /// The server said why it is about to end the stream.
    leaving: Option<String>,
}

impl Session {
    /// Nothing is sent before the first call. `hello` says who subscribes; its token is ours to fill.
    pub fn new(connection: Connection, hello: v1::SessionHello, retry: RetryOptions) -> Self {
        Self {
            patience: connection.patience(retry),
            connection,
            idle: idle(hello.heartbeat_interval.as_ref()),
            hello: v1::SessionHello {
                resume_token: String::new(),
                ..hello
            },
            selectors: BTreeMap::new(),
            ledger: Ledger::default(),
            pending: VecDeque::new(),
            awaited: None,
            next_id: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            token: None,
            touched: BTreeSet::new(),
            muted: BTreeSet::new(),
            state: State::Closed(None),
        }
    }

    /// Adds a selector under an id of our choice.
    pub async fn add(&mut self, id: u32, selector: v1::Selector) -> Result<(), SubscribeError> {
        if self.selectors.contains_key(&id) {
            let text = "a selector has this id: replace it, or choose another id";
            return Err(SubscribeError::Request(text));
        }
        self.set(id, selector).await
    }

    /// Adds a selector in place of the one of this id, which goes on if the new one is refused.
    pub async fn replace(&mut self, id: u32, selector: v1::Selector) -> Result<(), SubscribeError> {
        self.set(id, selector).await
    }

    pub async fn remove(&mut self, id: u32) -> Result<(), SubscribeError> {
        let remove = v1::RemoveSelector { selector_id: id };
        self.command(Command::Remove(remove)).await
    }

    /// Changes how much a selector gets, or its slow policy; `None` leaves it. It goes on where it is.
    pub async fn change(
        &mut self,
        id: u32,
        fidelity: Option<v1::Fidelity>,
        slow_policy: Option<v1::SlowPolicy>,
    ) -> Result<(), SubscribeError> {
        let change = v1::ChangeSelector {
            selector_id: id,
            fidelity,
            slow_policy,
        };
        self.command(Command::Change(change)).await
    }

    /// Says that everything of a feed before `place` was processed. With a name in hello that is
    /// durable when this returns.
    pub async fn acknowledge(
        &mut self,
        id: u32,
        feed: &str,
        place: Cursor,
    ) -> Result<(), SubscribeError> {
        let acknowledge = v1::Acknowledge {
            selector_id: id,
            cursor: Some(v1::Cursor {
                feed: feed.to_owned(),
                epoch: place.epoch,
                offset: place.offset,
            }),
        };
        self.command(Command::Acknowledge(acknowledge)).await
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Event, SubscribeError> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                return Ok(event);
            }
            self.backlog_bytes = 0;
            if let Some(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// The account of everything handed out, by selector id.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The selectors that the server answered for, as they were asked for.
    pub fn selectors(&self) -> &BTreeMap<u32, v1::Selector> {
        &self.selectors
    }

    async fn set(&mut self, id: u32, mut selector: v1::Selector) -> Result<(), SubscribeError> {
        self.resolve_end(&mut selector).await?;
        let set = v1::SetSelector {
            selector_id: id,
            selector: Some(selector),
        };
        self.command(Command::Set(set)).await
    }

    /// Turns `end = now` into an offset, so that it stays where it is after a reconnect. Of feed globs,
    /// and where the server does not tell, only its token knows.
    async fn resolve_end(&self, selector: &mut v1::Selector) -> Result<(), SubscribeError> {
        let end = selector.end.as_mut().and_then(|end| end.at.as_mut());
        let Some(at @ v1::end::At::Now(_)) = end else {
            return Ok(());
        };
        if !selector.feed_globs.is_empty() {
            return Ok(());
        }
        match next_offset(&self.connection, &selector.feed).await {
            Ok(next) => *at = v1::end::At::Offset(next),
            Err(status) if hidden(&status) => {}
            Err(status) => return Err(SubscribeError::Status(status)),
        }
        Ok(())
    }

    /// Opens, or reads one message. Nothing may come of it.
    async fn step(&mut self) -> Result<Option<Event>, SubscribeError> {
        let patience = self.patience_for_next();
        let open = match &mut self.state {
            State::Ended => return Err(SubscribeError::Request("the session has ended")),
            State::Closed(at) => {
                if let Some(at) = *at {
                    sleep_until(at).await;
                }
                return match self.open().await {
                    Ok(()) => Ok(None),
                    Err(status) => self.broke(status).map(Some),
                };
            }
            State::Open(open) => open,
        };
        let message = timeout(patience, open.stream.message()).await;
        match message.unwrap_or_else(|_elapsed| Err(silent(patience))) {
            Ok(Some(response)) => self.take(response),
            Ok(None) => self.broke(ended_early()).map(Some),
            Err(status) => self.broke(status).map(Some),
        }
    }

    /// Without a selector there are no heartbeats either.
    fn patience_for_next(&self) -> Duration {
        let is_leaving = matches!(&self.state, State::Open(open) if open.leaving.is_some());
        let is_idle = self.selectors.is_empty() && self.pending.is_empty();
        match (is_leaving, is_idle) {
            (true, _) => LEAVE,
            (false, true) => Duration::MAX,
            (false, false) => self.idle,
        }
    }

    fn take(&mut self, response: v1::SessionResponse) -> Result<Option<Event>, SubscribeError> {
        let bytes = response.encoded_len();
        let event = match response.event {
            Some(Said::Answer(answer)) => return self.answered(answer),
            Some(Said::Ended(ended)) => Some(self.ended(ended)),
            Some(Said::Response(response)) => self.heard(response)?,
            None => {
                self.state = State::Ended;
                let text =
                    "this client does not know the message: a newer server? update the client";
                return Err(SubscribeError::Request(text));
            }
        };
        self.backlog_bytes += bytes;
        if self.backlog_bytes > BACKLOG_BYTES && self.awaited.is_some() {
            let text = "the server sends on and on, and does not answer";
            return Err(SubscribeError::Request(text));
        }
        Ok(event)
    }

    fn ended(&mut self, ended: v1::SelectorEnded) -> Event {
        self.selectors.remove(&ended.selector_id);
        self.touched.insert(ended.selector_id);
        Event::SelectorEnded {
            selector: ended.selector_id,
            reason: ended.reason,
            message: ended.message,
        }
    }

    fn heard(&mut self, response: v1::SubscribeResponse) -> Result<Option<Event>, SubscribeError> {
        let is_reconnect = matches!(response.event, Some(Wire::Reconnect(_)));
        if self.muted.contains(&response.selector) && !is_reconnect {
            return Ok(None);
        }
        let fresh = match self.ledger.observe(&response) {
            Ok(fresh) => fresh,
            Err(broken) => {
                self.state = State::Ended;
                return Err(broken.into());
            }
        };
        let unknown = SubscribeError::Request("a response without an event passed the ledger");
        let wire = response.event.ok_or(unknown)?;
        if let Some(token) = token(&wire) {
            self.token = Some(token.to_owned());
            self.touched = self.pending.iter().filter_map(Pending::selector).collect();
        }
        if outdates_tokens(&wire) && self.names_its_feed(response.selector) {
            self.touched.insert(response.selector);
        }
        if is_progress(&wire) {
            self.patience.progress();
        }
        if let (Wire::Reconnect(reconnect), State::Open(open)) = (&wire, &mut self.state) {
            open.leaving = Some(reconnect.reason.clone());
        }
        Ok(event::event(response.selector, wire, fresh))
    }

    /// Whether our own cursor says where a selector is.
    fn names_its_feed(&self, id: u32) -> bool {
        let selector = self.selectors.get(&id);
        selector.is_some_and(|selector| selector.feed_globs.is_empty())
    }

    /// The stream failed: an error, or an event that says when it goes on.
    fn broke(&mut self, status: Status) -> Result<Event, SubscribeError> {
        let open = match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Open(open) => Some(open),
            State::Closed(_) | State::Ended => None,
        };
        let leaving = open.as_ref().and_then(|open| open.leaving.clone());
        if leaving.is_some() && (status.code() == Code::Aborted || is_dismissal(&status)) {
            return Err(SubscribeError::Dismissed {
                status,
                resume_token: self.token.clone().unwrap_or_default(),
            });
        }
        if let Some(open) = open.filter(|_| status.code() == Code::Unavailable) {
            self.connection.fail_over(&open.endpoint);
        }
        if self.has_lost_its_place() || is_dismissal(&status) {
            return Err(SubscribeError::Status(status));
        }
        let failed = match leaving {
            Some(_) if status.code() != Code::Unauthenticated => &Status::unavailable(""),
            _ => &status,
        };
        let Some(delay) = self.patience.failed(failed, std::time::Instant::now()) else {
            return Err(match &leaving {
                Some(_) => SubscribeError::Dismissed {
                    status,
                    resume_token: self.token.clone().unwrap_or_default(),
                },
                None => SubscribeError::Status(status),
            });
        };
        let reason = leaving.unwrap_or_else(|| status.message().to_owned());
        Ok(self.pause(reason, delay))
    }

    fn pause(&mut self, reason: String, delay: Duration) -> Event {
        self.state = State::Closed(Some(Instant::now() + delay));
        Event::Disconnected { reason, delay }
    }
}

#[cfg(test)]
mod tests;
