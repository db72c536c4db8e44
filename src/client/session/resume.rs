//! How a cut session goes on: as a subscription does (see `subscribe/resume.rs`), with what changed
//! since the token was issued put right after it.

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    super::{
        Reopened,
        subscribe::{Tokens, go_on, silent},
    },
    Open, Session, State,
    commands::Origin,
};
use crate::proto::v1::{self, session_request::Command};

/// Commands that may wait for the wire.
const COMMANDS: usize = 16;

impl Session {
    pub(super) async fn open(&mut self) -> Result<(), Status> {
        let endpoint = self.connection.endpoint().to_owned();
        let by_token = self.needs_token() && self.token.is_some();
        self.begin(by_token);
        let (requests, outgoing) = mpsc::channel(self.pending.len() + COMMANDS);
        for pending in &self.pending {
            // There is room for all of them.
            requests.try_send(pending.request.clone()).ok();
        }
        let mut client = self.connection.feed();
        let call = timeout(self.idle, client.session(ReceiverStream::new(outgoing))).await;
        let response = match call.unwrap_or_else(|_elapsed| Err(silent(self.idle))) {
            Ok(response) => response,
            Err(status) => {
                if status.code() == Code::Unavailable {
                    self.connection.fail_over(&endpoint);
                }
                return Err(status);
            }
        };
        self.ledger.reopened(if by_token {
            Reopened::AtOrBefore
        } else {
            Reopened::Behind
        });
        self.state = State::Open(Box::new(Open {
            requests,
            stream: response.into_inner(),
            endpoint,
            leaving: None,
        }));
        Ok(())
    }

    /// Puts before what is pending what brings the selectors back.
    fn begin(&mut self, by_token: bool) {
        self.pending
            .retain(|pending| pending.origin == Origin::Caller);
        self.muted.clear();
        let token = self.token.clone().filter(|_| by_token);
        let mut commands = vec![Command::Hello(v1::SessionHello {
            resume_token: token.unwrap_or_default(),
            ..self.hello.clone()
        })];
        let wanted: Vec<u32> = if by_token {
            self.muted.clone_from(&self.touched);
            self.touched.iter().copied().collect()
        } else {
            self.selectors.keys().copied().collect()
        };
        commands.extend(wanted.into_iter().map(|id| self.restoring(id)));
        for command in commands.into_iter().rev() {
            let pending = self.numbered(command, Origin::Resume);
            self.pending.push_front(pending);
        }
    }

    /// Sets a selector where it stands, or removes what a token brings back of it.
    fn restoring(&self, id: u32) -> Command {
        let Some(selector) = self.selectors.get(&id) else {
            return Command::Remove(v1::RemoveSelector { selector_id: id });
        };
        let mut selector = selector.clone();
        let lane = self.ledger.of(id).next();
        if let Some(lane) = lane.filter(|_| selector.feed_globs.is_empty()) {
            go_on(&mut selector, lane.next());
        }
        Command::Set(v1::SetSelector {
            selector_id: id,
            selector: Some(selector),
        })
    }

    fn needs_token(&self) -> bool {
        let selectors = self.selectors.iter().map(|(id, selector)| (*id, selector));
        Tokens::wanted_for(selectors, &self.ledger) == Tokens::Last
    }

    /// What was handed out of feed globs can be gone on with by a token alone, and none knows of it.
    pub(super) fn has_lost_its_place(&self) -> bool {
        let globs = self.selectors.iter();
        let mut globs = globs.filter(|(_, selector)| !selector.feed_globs.is_empty());
        globs.any(|(id, _)| {
            let is_known = self.token.is_some() && !self.touched.contains(id);
            !is_known && self.ledger.of(*id).any(|lane| lane.next().is_some())
        })
    }
}
