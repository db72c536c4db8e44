//! The commands of a session, in order: one is carried out at a time, except that acknowledgements
//! wait together. Nothing is read ahead but what can be carried out.

use std::{collections::VecDeque, fmt};

use futures_util::future::BoxFuture;
use tonic::{Status, Streaming};

use crate::{
    proto::v1::{SessionRequest, session_request::Command},
    rpc::{
        status,
        subscribe::{Following, Opened},
    },
};

/// Acknowledgements that may wait to become durable.
const MAX_WAITING: usize = 64;

/// What a command that takes a while came to.
#[derive(Debug)]
pub(super) enum Done {
    Hello(Result<Box<Following>, Status>),
    Selector(Result<Box<Opened>, Status>),
}

#[derive(Debug)]
pub(super) enum Event {
    /// To be carried out now.
    Command(Box<SessionRequest>),
    Done(u64, Done),
    Acknowledged(u64, Result<(), Status>),
    /// The client has no more commands.
    Closed,
}

pub(super) struct Commands {
    /// `None` after the client closed its side.
    requests: Option<Streaming<SessionRequest>>,
    /// The one that is being carried out.
    doing: Option<(u64, BoxFuture<'static, Done>)>,
    /// Acknowledgements that are not durable yet.
    waiting: VecDeque<(u64, BoxFuture<'static, Result<(), Status>>)>,
    /// Read, but its turn is after those that wait.
    held: Option<Box<SessionRequest>>,
}

impl Commands {
    pub(super) fn new(requests: Streaming<SessionRequest>) -> Self {
        Self {
            requests: Some(requests),
            doing: None,
            waiting: VecDeque::new(),
            held: None,
        }
    }

    /// Nothing more will come of it.
    pub(super) fn are_over(&self) -> bool {
        self.requests.is_none()
            && self.doing.is_none()
            && self.waiting.is_empty()
            && self.held.is_none()
    }

    /// The command is done when `work` is; no other begins before.
    pub(super) fn begin(&mut self, id: u64, work: BoxFuture<'static, Done>) {
        self.doing = Some((id, work));
    }

    /// The acknowledgement is answered when `work` is done; others may begin before.
    pub(super) fn wait(&mut self, id: u64, work: BoxFuture<'static, Result<(), Status>>) {
        self.waiting.push_back((id, work));
    }

    /// What is to be done next. Safe to cancel; for ever silent when nothing more will come.
    pub(super) async fn next(&mut self) -> Result<Event, Status> {
        loop {
            if let Some((id, work)) = &mut self.doing {
                let (id, done) = (*id, work.await);
                self.doing = None;
                return Ok(Event::Done(id, done));
            }
            if self.waiting.is_empty()
                && let Some(held) = self.held.take()
            {
                return Ok(Event::Command(held));
            }
            let may_read = self.held.is_none() && self.waiting.len() < MAX_WAITING;
            let requests = self.requests.as_mut().filter(|_| may_read);
            tokio::select! {
                (id, result) = first(&mut self.waiting) => {
                    self.waiting.pop_front();
                    return Ok(Event::Acknowledged(id, result));
                }
                request = read(requests) => match request.map_err(status::of_request)? {
                    Some(request) if self.waiting.is_empty() || waits_with_others(&request) => {
                        return Ok(Event::Command(request));
                    }
                    Some(request) => self.held = Some(request),
                    None => {
                        self.requests = None;
                        return Ok(Event::Closed);
                    }
                },
            }
        }
    }
}

fn waits_with_others(request: &SessionRequest) -> bool {
    matches!(request.command, Some(Command::Acknowledge(_)))
}

/// The first of those that wait, once it is done; it stays there.
async fn first(
    waiting: &mut VecDeque<(u64, BoxFuture<'static, Result<(), Status>>)>,
) -> (u64, Result<(), Status>) {
    match waiting.front_mut() {
        Some((id, work)) => (*id, work.await),
        None => std::future::pending().await,
    }
}

async fn read(
    requests: Option<&mut Streaming<SessionRequest>>,
) -> Result<Option<Box<SessionRequest>>, Status> {
    match requests {
        Some(requests) => Ok(requests.message().await?.map(Box::new)),
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands")
            .field("open", &self.requests.is_some())
            .field("doing", &self.doing.as_ref().map(|(id, _)| id))
            .field("waiting", &self.waiting.len())
            .field("held", &self.held)
            .finish()
    }
}
