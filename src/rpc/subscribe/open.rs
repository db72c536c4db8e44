//! Opening a selector: anew, or where a resume token left it.

use std::{sync::Arc, time::Duration};

use tonic::Status;

use super::{
    Outgoing,
    chosen::{Chosen, Globbed},
    leg::{Infos, Leg},
};
use crate::{
    hub::{Begun, CursorKey, Feed, KeyFilter, Registration, Start, Wanted},
    layers::{Call, Over, Seldom},
    model::{Action, FeedName},
    proto::{
        convert::wire_duration,
        v1::{self, subscribe_response::Event},
    },
    rpc::{
        Context, access, request,
        selector::{self, Begins, Feeds, Place, Selection},
        status,
        token::{KeptFeed, KeptSelector},
    },
};

/// Feeds of all selectors of a stream together.
pub(super) const MAX_LEGS: usize = 1_024;
const HEARTBEATS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);

/// Who subscribes, and how.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct Who {
    pub(in crate::rpc) context: Arc<Context>,
    pub(in crate::rpc) call: Arc<Call>,
    pub(in crate::rpc) key: CursorKey,
    pub(super) infos: Infos,
    /// As asked for.
    heartbeat: Option<Duration>,
}

/// A selector and its followers.
#[derive(Debug)]
pub(in crate::rpc) struct Opened {
    pub(super) chosen: Chosen,
    pub(super) legs: Vec<Leg>,
    /// To be said before anything of it.
    pub(super) narrowed: Option<Outgoing>,
}

impl Who {
    /// Reads what a request says beside its selectors.
    pub(in crate::rpc) fn read(
        context: &Arc<Context>,
        call: Arc<Call>,
        request: &v1::SubscribeRequest,
    ) -> Result<Self, Status> {
        let subscriber = request::subscriber_name(&request.subscriber)?;
        let heartbeat = request.heartbeat_interval.as_ref().map(heartbeat);
        Ok(Self {
            context: Arc::clone(context),
            key: CursorKey {
                principal: call.principal(),
                subscriber,
            },
            call,
            infos: if request.include_info {
                Infos::Sent
            } else {
                Infos::LeftOut
            },
            heartbeat: heartbeat.transpose()?,
        })
    }

    /// Comes back when the server has to end the stream.
    pub(in crate::rpc) fn over(&self) -> Seldom<Over> {
        self.call.over(&self.context.stopping)
    }

    /// Time between heartbeats.
    pub(super) fn period(&self) -> Duration {
        self.heartbeat.unwrap_or(self.context.heartbeat)
    }

    /// What was read.
    pub(super) fn request(&self) -> v1::SubscribeRequest {
        v1::SubscribeRequest {
            include_info: self.infos == Infos::Sent,
            heartbeat_interval: self.heartbeat.map(wire_duration),
            subscriber: self.key.subscriber.to_string(),
            ..v1::SubscribeRequest::default()
        }
    }

    pub(in crate::rpc) fn is_named(&self) -> bool {
        !self.key.subscriber.is_empty()
    }

    /// A feed that a selector names, with these keys of it.
    fn feed(&self, name: &FeedName, filter: &KeyFilter) -> Result<Arc<Feed>, Status> {
        let (call, action) = (&self.call, Action::Subscribe);
        let allowed = access::keys(call, action, name)?;
        let named = filter.include.iter().flatten().map(String::as_str);
        access::each_key(&allowed, action, name, named)?;
        self.found(name)
    }

    fn found(&self, name: &FeedName) -> Result<Arc<Feed>, Status> {
        let found = self.context.hub.feed(name);
        found.map_err(|error| status::catalog(&error))
    }

    /// A feed that is there for this caller to follow.
    fn visible(&self, name: &FeedName) -> Option<Arc<Feed>> {
        let feed = self.found(name).ok()?;
        self.sees(&feed).then_some(feed)
    }

    /// Whether the caller may follow a feed, be it some keys of it only.
    pub(super) fn sees(&self, feed: &Feed) -> bool {
        access::may(&self.call, Action::Subscribe, feed.name())
    }

    /// Where a feed begins.
    fn start(&self, feed: &Feed, place: Place) -> (Start, Begun) {
        match place {
            Place::At(start) => (start, Begun::Elsewhere),
            Place::NamedCursor => {
                let stored = self.context.hub.named_cursor(feed, &self.key);
                let start = stored.map_or(Start::Earliest, |named| Start::Cursor(named.cursor));
                (start, Begun::AtNamedCursor)
            }
        }
    }

    /// Begins to follow what the caller may see of a feed.
    pub(super) async fn leg(
        &self,
        feed: &Arc<Feed>,
        mut wanted: Wanted,
        begun: Begun,
    ) -> Result<Leg, Status> {
        let hub = &self.context.hub;
        let narrowed = access::narrow(&self.call, feed.name(), &mut wanted.filter)?;
        let selector = wanted.selector;
        let follower = hub.follow(feed, wanted).await;
        let follower = follower.map_err(|error| status::follow(&error))?;
        let registration = Registration {
            key: self.key.clone(),
            begun,
            cursor: follower.cursor(),
            fidelity: follower.fidelity(),
        };
        let guard = hub.register_subscriber(feed, registration);
        let leg = Leg::new(selector, follower, guard, self.infos);
        Ok(leg.narrowed(narrowed))
    }
}

fn heartbeat(asked: &prost_types::Duration) -> Result<Duration, Status> {
    let field = "heartbeat_interval";
    let asked = request::duration(field, asked)?;
    if !HEARTBEATS.contains(&asked) {
        return Err(status::invalid_argument(field, "is 100 ms to 1 h"));
    }
    Ok(asked)
}

impl Opened {
    /// Opens a selector that stands at `path` in its request.
    pub(in crate::rpc) async fn anew(
        who: &Who,
        path: &str,
        id: u32,
        asked: &v1::Selector,
    ) -> Result<Self, Status> {
        let selection = selector::parse(path, id, asked, Begins::AsAsked)?;
        if selection.place == Place::NamedCursor && !who.is_named() {
            let text = "is a named cursor; give the subscriber a name";
            return Err(status::invalid_argument(&format!("{path}.start"), text));
        }
        let Selection {
            feeds,
            place,
            wanted,
        } = selection;
        let (feeds, globs) = match feeds {
            Feeds::One(name) => (vec![who.feed(&name, &wanted.filter)?], None),
            Feeds::Matching { globs, exclude } => {
                let globbed = Globbed::new(globs, exclude, wanted.clone());
                (globbed.matching(who), Some(Box::new(globbed)))
            }
        };
        room_for(feeds.len())?;
        let mut legs = Vec::with_capacity(feeds.len());
        for feed in &feeds {
            let (start, begun) = who.start(feed, place);
            let wanted = Wanted {
                start,
                ..wanted.clone()
            };
            legs.push(who.leg(feed, wanted, begun).await?);
        }
        Ok(Self::new(who, Chosen::new(id, asked, globs), legs))
    }

    /// Opens a selector where a resume token left it.
    pub(in crate::rpc) async fn resumed(who: &Who, kept: &KeptSelector) -> Result<Self, Status> {
        let asked = kept.asked.clone().unwrap_or_default();
        let selection = selector::parse("resume_token", kept.id, &asked, Begins::Elsewhere)?;
        let Selection { feeds, wanted, .. } = selection;
        let mut globs = match feeds {
            Feeds::One(_) => None,
            Feeds::Matching { globs, exclude } => {
                Some(Box::new(Globbed::new(globs, exclude, wanted.clone())))
            }
        };
        room_for(kept.feeds.len())?;
        let mut legs = Vec::with_capacity(kept.feeds.len());
        for kept in &kept.feeds {
            let name = request::feed_name("resume_token", &kept.feed)?;
            let found = match globs {
                Some(_) => who.visible(&name),
                None => Some(who.feed(&name, &wanted.filter)?),
            };
            match (found, &mut globs) {
                (Some(feed), _) => {
                    let wanted = where_it_was(wanted.clone(), kept);
                    legs.push(who.leg(&feed, wanted, Begun::Elsewhere).await?);
                }
                // Nothing can be told of a feed that is not there, or not to this caller.
                (None, Some(globs)) => {
                    if let Some(cursor) = kept.resume().cursor {
                        globs.left(name, cursor);
                    }
                }
                (None, None) => {}
            }
        }
        Ok(Self::new(who, Chosen::new(kept.id, &asked, globs), legs))
    }

    fn new(who: &Who, chosen: Chosen, legs: Vec<Leg>) -> Self {
        let globs = chosen.globs.as_deref().map(Globbed::globs);
        let narrowed = globs.and_then(|globs| access::narrow_feeds(&who.call, globs));
        let narrowed = narrowed.map(|said| Outgoing::new(chosen.id(), Event::Narrowed(said)));
        Self {
            chosen,
            legs,
            narrowed,
        }
    }
}

fn where_it_was(wanted: Wanted, kept: &KeptFeed) -> Wanted {
    let resume = kept.resume();
    Wanted {
        start: resume.cursor.map_or(Start::Snapshot, Start::Cursor),
        end: resume.end,
        carried: resume.carried,
        ..wanted
    }
}

/// Whether a stream may have so many legs.
pub(super) fn room_for(legs: usize) -> Result<(), Status> {
    if legs > MAX_LEGS {
        return Err(status::too_many_feeds(MAX_LEGS));
    }
    Ok(())
}
