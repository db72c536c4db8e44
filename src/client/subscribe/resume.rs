//! How a broken stream goes on.
//!
//! By our own cursors, where they say everything: each selector begins at the offset behind what was
//! handed out, one whose snapshot was not complete begins it anew, and the token of `Reconnect`
//! is the same place in other words. The first range must begin exactly there.
//!
//! By the last token seen, where cursors cannot say it: which feeds of a glob there were and where
//! each one is; which bars are in progress; until it has caught up, which records were the last of
//! each key. A token lies at or before what was handed out, so some
//! ranges come again: the ledger says what of them is new, and only that is handed out (of bars,
//! everything: they replace themselves). Without a token, which a server sends as soon as it
//! has caught up and with each heartbeat, selectors with globs cannot go on: an error. Others go on
//! by cursor, and one that was still getting the last of each key gets every record from there on.
//!
//! A token from before a snapshot was complete would begin another one, and one from before a change
//! of epoch would have that told again. Cursors say better where those are, so such a token is
//! dropped, unless there are globs: the ledger accounts for what they do not hear of then.

use super::{
    super::{Ledger, Reopened, event::token, ledger::Lane},
    Subscription,
};
use crate::proto::v1::{self, subscribe_response::Event as Wire};

/// Which tokens are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Tokens {
    /// That of `Reconnect`, used once: own cursors say as much.
    OfReconnect,
    /// The last one.
    Last,
}

impl Tokens {
    pub(in crate::client) fn wanted_for<'s>(
        selectors: impl IntoIterator<Item = (u32, &'s v1::Selector)>,
        ledger: &Ledger,
    ) -> Self {
        let mut selectors = selectors.into_iter();
        if selectors.any(|(id, selector)| needs_token(id, selector, ledger)) {
            Self::Last
        } else {
            Self::OfReconnect
        }
    }
}

fn needs_token(id: u32, selector: &v1::Selector, ledger: &Ledger) -> bool {
    let view = selector.fidelity.as_ref().and_then(|f| f.view.as_ref());
    !selector.feed_globs.is_empty()
        || matches!(view, Some(v1::fidelity::View::Bars(_)))
        || ledger.of(id).any(Lane::is_picking)
}

/// Whether a token from before a message says less of its selector than a cursor does now.
pub(in crate::client) fn outdates_tokens(wire: &Wire) -> bool {
    match wire {
        Wire::SnapshotComplete(_) => true,
        Wire::Gap(gap) => gap.reason() == v1::GapReason::EpochChanged,
        Wire::Records(_)
        | Wire::Bars(_)
        | Wire::Snapshot(_)
        | Wire::CaughtUp(_)
        | Wire::Heartbeat(_)
        | Wire::ModeChanged(_)
        | Wire::KeyInfo(_)
        | Wire::Narrowed(_)
        | Wire::Reconnect(_) => false,
    }
}

impl Subscription {
    /// The request from where we stand.
    pub(super) fn resumed(&self) -> (v1::SubscribeRequest, Reopened) {
        let mut request = self.request.clone();
        if let Some(token) = &self.token {
            request.selectors.clear();
            request.resume_token.clone_from(token);
            let reopened = match self.tokens() {
                Tokens::OfReconnect => Reopened::Behind,
                Tokens::Last => Reopened::AtOrBefore,
            };
            return (request, reopened);
        }
        for (id, selector) in (0..).zip(&mut request.selectors) {
            let lane = self.ledger.of(id).next();
            if let Some(lane) = lane.filter(|_| selector.feed_globs.is_empty()) {
                go_on(selector, lane.next());
            }
        }
        (request, Reopened::Behind)
    }

    /// Which tokens are kept from here on.
    pub(super) fn tokens(&self) -> Tokens {
        Tokens::wanted_for((0..).zip(&self.request.selectors), &self.ledger)
    }

    pub(super) fn keep_token(&mut self, wire: &Wire) {
        let tokens = self.tokens();
        let kept = match (tokens, wire) {
            (Tokens::Last, wire) | (Tokens::OfReconnect, wire @ Wire::Reconnect(_)) => token(wire),
            (Tokens::OfReconnect, _) => None,
        };
        if let Some(token) = kept {
            self.token = Some(token.to_owned());
        } else if tokens == Tokens::OfReconnect || (outdates_tokens(wire) && !self.has_globs()) {
            self.token = None;
        }
    }

    fn has_globs(&self) -> bool {
        let mut selectors = self.request.selectors.iter();
        selectors.any(|selector| !selector.feed_globs.is_empty())
    }

    /// What was handed out of feed globs can be gone on with by a token alone, and there is none.
    pub(super) fn has_lost_its_place(&self) -> bool {
        let globs = (0..).zip(&self.request.selectors);
        let mut globs = globs.filter(|(_, selector)| !selector.feed_globs.is_empty());
        self.token.is_none()
            && globs.any(|(id, _)| self.ledger.of(id).any(|lane| lane.next().is_some()))
    }
}

/// Makes a selector begin where it stands; one that has no place yet begins as it was asked for.
pub(in crate::client) fn go_on(selector: &mut v1::Selector, next: Option<crate::model::Cursor>) {
    if let Some(next) = next {
        let cursor = v1::Cursor {
            feed: selector.feed.clone(),
            epoch: next.epoch,
            offset: next.offset,
        };
        selector.start = Some(v1::Start {
            from: Some(v1::start::From::Cursor(cursor)),
        });
    }
}
