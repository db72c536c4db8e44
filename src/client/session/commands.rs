//! Commands on their way, and what their answers change.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;

use super::{Event, Session, State, SubscribeError};
use crate::proto::v1::{self, session_request::Command};

/// A command that is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: v1::SessionRequest,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Caller,
    /// It puts things back as they were before a cut.
    Resume,
}

impl Pending {
    /// The selector that it changes.
    pub(super) fn selector(&self) -> Option<u32> {
        match self.request.command.as_ref()? {
            Command::Set(set) => Some(set.selector_id),
            Command::Remove(remove) => Some(remove.selector_id),
            Command::Change(change) => Some(change.selector_id),
            Command::Acknowledge(_) | Command::Hello(_) => None,
        }
    }
}

impl Session {
    /// Sends a command and reads until it is answered.
    pub(super) async fn command(&mut self, command: Command) -> Result<(), SubscribeError> {
        let pending = self.numbered(command, Origin::Caller);
        let id = pending.request.request_id;
        if let State::Open(open) = &self.state {
            match open.requests.try_send(pending.request.clone()) {
                // A stream that is closed by now sends it again when it is back.
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(_)) => {
                    let text = "too many commands are not answered yet";
                    return Err(SubscribeError::Request(text));
                }
            }
        }
        self.touched.extend(pending.selector());
        self.pending.push_back(pending);
        self.awaited = Some((id, None));
        loop {
            if let Some((_, Some(_))) = &self.awaited {
                let answer = self.awaited.take().and_then(|(_, answer)| answer);
                return answer.unwrap_or(Ok(()));
            }
            match self.step().await {
                Ok(Some(event)) => self.backlog.push_back(event),
                Ok(None) => {}
                Err(error) => {
                    self.awaited = None;
                    self.pending.retain(|p| p.request.request_id != id);
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn numbered(&mut self, command: Command, origin: Origin) -> Pending {
        self.next_id += 1;
        Pending {
            request: v1::SessionRequest {
                request_id: self.next_id,
                command: Some(command),
            },
            origin,
        }
    }

    /// Enters an answer. One that nobody waits for is an event where a selector is gone by it.
    pub(super) fn answered(
        &mut self,
        answer: v1::SessionAnswer,
    ) -> Result<Option<Event>, SubscribeError> {
        let id = answer.request_id;
        let at = self.pending.iter().position(|p| p.request.request_id == id);
        let Some(pending) = at.and_then(|at| self.pending.remove(at)) else {
            return Ok(None);
        };
        let carried_out = answer.reason.is_empty();
        let Some(command) = pending.request.command else {
            return Ok(None);
        };
        match pending.origin {
            Origin::Resume if carried_out => self.restored(&command),
            Origin::Resume => return self.not_restored(&command, answer),
            Origin::Caller => {
                let result = if carried_out {
                    self.apply(command);
                    Ok(())
                } else {
                    Err(refused(answer))
                };
                if let Some((awaited, answer)) = &mut self.awaited
                    && *awaited == id
                {
                    *answer = Some(result);
                }
            }
        }
        Ok(None)
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Set(set) => {
                let selector = set.selector.unwrap_or_default();
                self.ledger.add(set.selector_id, &selector);
                self.selectors.insert(set.selector_id, selector);
            }
            Command::Remove(remove) => {
                self.ledger.remove(remove.selector_id);
                self.selectors.remove(&remove.selector_id);
            }
            Command::Change(change) => {
                if let Some(selector) = self.selectors.get_mut(&change.selector_id) {
                    selector.fidelity = change.fidelity.or(selector.fidelity);
                    selector.slow_policy = change.slow_policy.or(selector.slow_policy);
                }
            }
            Command::Acknowledge(_) | Command::Hello(_) => {}
        }
    }

    fn restored(&mut self, command: &Command) {
        match command {
            Command::Set(set) => drop(self.muted.remove(&set.selector_id)),
            Command::Remove(remove) => drop(self.muted.remove(&remove.selector_id)),
            Command::Hello(_) | Command::Change(_) | Command::Acknowledge(_) => {}
        }
    }

    /// What was there before a cut is refused now: that selector is gone, the others go on.
    fn not_restored(
        &mut self,
        command: &Command,
        answer: v1::SessionAnswer,
    ) -> Result<Option<Event>, SubscribeError> {
        match command {
            // The token had not brought it back.
            Command::Remove(remove) => {
                self.muted.remove(&remove.selector_id);
                Ok(None)
            }
            // A refused token is no refusal of what we ask for: our own cursors remain.
            Command::Hello(_) if self.token.take().is_some() && !self.has_lost_its_place() => {
                Ok(Some(self.pause(answer.message, Duration::ZERO)))
            }
            Command::Hello(_) => {
                self.state = State::Ended;
                Err(refused(answer))
            }
            Command::Set(set) => {
                self.selectors.remove(&set.selector_id);
                Ok(Some(Event::SelectorEnded {
                    selector: set.selector_id,
                    reason: answer.reason,
                    message: answer.message,
                }))
            }
            Command::Change(_) | Command::Acknowledge(_) => Ok(None),
        }
    }
}

fn refused(answer: v1::SessionAnswer) -> SubscribeError {
    SubscribeError::Refused {
        reason: answer.reason,
        message: answer.message,
    }
}
