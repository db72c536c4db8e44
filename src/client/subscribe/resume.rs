//! How a broken stream goes on.
//!
//! By our own cursors, where they say everything: each selector begins at the offset behind what was
//! handed out, one whose snapshot was not complete begins it anew, and the token of `Reconnect`
//! is the same place in other words. The first range must begin exactly there.
//!
//! By the last token seen, where cursors cannot say it: which feeds of a glob there were and where
//! each one is; which bars are in progress. A token lies at or before what was handed out, so some
//! ranges come again: the ledger says what of them is new, and only that is handed out (of bars,
//! everything: they replace themselves). Without a token, which a server sends as soon as it
//! has caught up and with each heartbeat, selectors with globs cannot go on: an error.

use super::{
    super::{Reopened, event::token},
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
        selectors: impl IntoIterator<Item = &'s v1::Selector>,
    ) -> Self {
        if selectors.into_iter().any(needs_token) {
            Self::Last
        } else {
            Self::OfReconnect
        }
    }
}

fn needs_token(selector: &v1::Selector) -> bool {
    let view = selector.fidelity.as_ref().and_then(|f| f.view.as_ref());
    !selector.feed_globs.is_empty() || matches!(view, Some(v1::fidelity::View::Bars(_)))
}

impl Subscription {
    /// The request from where we stand.
    pub(super) fn resumed(&self) -> (v1::SubscribeRequest, Reopened) {
        let mut request = self.request.clone();
        if let Some(token) = &self.token {
            request.selectors.clear();
            request.resume_token.clone_from(token);
            let reopened = match self.tokens {
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

    pub(super) fn keep_token(&mut self, wire: &Wire) {
        let kept = match (self.tokens, wire) {
            (Tokens::Last, wire) | (Tokens::OfReconnect, wire @ Wire::Reconnect(_)) => token(wire),
            (Tokens::OfReconnect, _) => None,
        };
        if let Some(token) = kept {
            self.token = Some(token.to_owned());
        }
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
