//! Accounts for every offset of a subscription: do I hold everything, and if not, what is missing
//! and why? Takes responses as they come and refuses the first one that does not add up.
//!
//! ```text
//! Ledger -> a selector's id -> its lanes, one per feed -> report: delivered, left out, gaps, unsettled
//! ```
//! What it cannot see: a message that settles nothing (bars with an empty range, part of a snapshot,
//! a heartbeat) has no number, so one that is lost is missed by nobody; bars that come twice replace
//! themselves. Of a selector whose start does not say where it is, the first range says so; and a feed
//! of a glob that was deleted and created again begins anew, in a greater epoch.

mod fault;
mod lane;
mod report;
mod wire;

use std::collections::BTreeMap;

pub(super) use self::wire::{cursor, reason};
pub use self::{
    fault::{Broken, Fault, Offsets},
    lane::{Fresh, Lane, Reopened},
    report::{GapEntry, Loss, Report},
    wire::record_offset,
};
use crate::proto::v1::{self, subscribe_response::Event};

/// The accounts of a subscription or a session, by selector id.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    selectors: BTreeMap<u32, Lanes>,
}

/// The feeds of one selector.
#[derive(Clone, Debug)]
enum Lanes {
    /// It names its feed.
    One(Lane),
    /// It has feed globs: feeds come up as the server speaks of them.
    Globs {
        asked: Box<v1::Selector>,
        lanes: BTreeMap<String, Lane>,
    },
}

impl Ledger {
    /// An account for each selector, by its index.
    pub fn new(selectors: &[v1::Selector]) -> Self {
        let mut ledger = Self::default();
        for (id, selector) in (0..).zip(selectors) {
            ledger.add(id, selector);
        }
        ledger
    }

    /// An account for a selector of a session. One that had this id is replaced: it begins anew.
    pub fn add(&mut self, id: u32, selector: &v1::Selector) {
        let lanes = if selector.feed_globs.is_empty() {
            Lanes::One(Lane::of(selector))
        } else {
            Lanes::Globs {
                asked: Box::new(selector.clone()),
                lanes: BTreeMap::new(),
            }
        };
        self.selectors.insert(id, lanes);
    }

    /// Ends the account of a selector of a session.
    pub fn remove(&mut self, id: u32) {
        self.selectors.remove(&id);
    }

    /// All lanes, with the ids of their selectors.
    pub fn lanes(&self) -> impl Iterator<Item = (u32, &Lane)> {
        let all = self.selectors.iter();
        all.flat_map(|(id, lanes)| lanes.iter().map(|lane| (*id, lane)))
    }

    /// The lanes of one selector.
    pub fn of(&self, id: u32) -> impl Iterator<Item = &Lane> {
        self.selectors.get(&id).into_iter().flat_map(Lanes::iter)
    }

    pub fn lane(&self, id: u32, feed: &str) -> Option<&Lane> {
        self.of(id).find(|lane| lane.feed() == feed)
    }

    /// A new stream took the place of the one before. Snapshots that were not complete begin anew.
    pub fn reopened(&mut self, how: Reopened) {
        let lanes = self.selectors.values_mut().flat_map(Lanes::iter_mut);
        lanes.for_each(|lane| lane.reopened(how));
    }

    /// Enters a response, and says what of it was not held before. After an error the account
    /// stands as before it.
    pub fn observe(&mut self, response: &v1::SubscribeResponse) -> Result<Fresh, Broken> {
        let id = response.selector;
        let event = response.event.as_ref();
        // `reconnect` speaks for the whole stream.
        if let Some(Event::Reconnect(_)) = event {
            return Ok(Fresh::All);
        }
        let Some(lanes) = self.selectors.get_mut(&id) else {
            return Err(Broken::new(id, "", Fault::Selector));
        };
        let event = event.ok_or_else(|| Broken::new(id, lanes.name(), Fault::Unknown))?;
        let observed = lanes.observe(event);
        observed.map_err(|fault| match lanes.name() {
            "" => Broken::new(id, wire::feed(event), fault),
            name => Broken::new(id, name, fault),
        })
    }
}

impl Lanes {
    fn iter(&self) -> Box<dyn Iterator<Item = &Lane> + '_> {
        match self {
            Self::One(lane) => Box::new(std::iter::once(lane)),
            Self::Globs { lanes, .. } => Box::new(lanes.values()),
        }
    }

    fn iter_mut(&mut self) -> Box<dyn Iterator<Item = &mut Lane> + '_> {
        match self {
            Self::One(lane) => Box::new(std::iter::once(lane)),
            Self::Globs { lanes, .. } => Box::new(lanes.values_mut()),
        }
    }

    /// The feed it names; empty for globs.
    fn name(&self) -> &str {
        match self {
            Self::One(lane) => lane.feed(),
            Self::Globs { .. } => "",
        }
    }

    fn observe(&mut self, event: &Event) -> Result<Fresh, Fault> {
        let feed = wire::feed(event);
        match self {
            Self::One(lane) if feed.is_empty() || feed == lane.feed() => lane.observe(event),
            Self::One(_) => Err(Fault::Feed(feed.to_owned())),
            Self::Globs { asked, lanes } => match lanes.get_mut(feed) {
                Some(lane) => lane.observe(event),
                None if places(event) && feed.is_empty() => Err(Fault::Lacks("its feed")),
                None if places(event) => {
                    let mut lane = Lane::joined(feed, asked);
                    let fresh = lane.observe(event)?;
                    lanes.insert(feed.to_owned(), lane);
                    Ok(fresh)
                }
                None => Ok(Fresh::All),
            },
        }
    }
}

/// Whether a message says where a feed stands. A heartbeat may come of a selector that has none yet.
fn places(event: &Event) -> bool {
    match event {
        Event::Records(_)
        | Event::Bars(_)
        | Event::Gap(_)
        | Event::Snapshot(_)
        | Event::SnapshotComplete(_)
        | Event::CaughtUp(_) => true,
        Event::Heartbeat(heartbeat) => heartbeat
            .cursor
            .as_ref()
            .is_some_and(|c| !c.feed.is_empty()),
        Event::ModeChanged(_) | Event::KeyInfo(_) | Event::Narrowed(_) | Event::Reconnect(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
