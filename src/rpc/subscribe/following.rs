//! What a stream follows: its selectors, in fair turns, each accounting for every offset. Subscribe
//! and Session are two ways to drive it.

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::select_all};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tonic::Status;

use super::{
    Outgoing,
    chosen::Chosen,
    leg::Leg,
    open::{MAX_LEGS, Opened, Who, room_for},
    turns::Turns,
};
use crate::{
    hub::{Begun, FollowError, Step},
    model,
    proto::v1::{self, subscribe_response::Event},
    rpc::{
        status,
        token::{self, KeptFeed, KeptSelector, Token},
    },
};

/// A larger token (very long key lists, very many feeds) is only sent when the stream has to end.
const MAX_FREQUENT_TOKEN_BYTES: usize = 4_096;
/// With more legs a token is larger than that in any case.
const MAX_FREQUENT_TOKEN_LEGS: usize = 150;

/// What becomes of a stream without a selector that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc) enum Kind {
    /// Its selectors are its purpose: it ends with them, and with the failure of one.
    Subscribe,
    /// Selectors come and go.
    Session,
}

/// What happens on a stream.
#[derive(Debug)]
pub(in crate::rpc) enum Happening {
    Response(Outgoing),
    /// A selector of a Session ended: at its end, or because of this.
    Ended(u32, Option<Box<Status>>),
    /// Every selector of a Subscribe reached its end.
    Over,
}

#[derive(Debug)]
pub(in crate::rpc) struct Following {
    who: Arc<Who>,
    kind: Kind,
    chosen: Vec<Chosen>,
    legs: Vec<Leg>,
    turns: Turns,
    ready: VecDeque<Outgoing>,
    /// To be said after what is ready.
    ended: VecDeque<(u32, Option<Box<Status>>)>,
    failure: Option<Box<Status>>,
    /// Only where feeds may join.
    list: Option<Box<FeedList>>,
    heartbeat: Pin<Box<Sleep>>,
    /// Something else was said, or looked for, since the last heartbeats.
    turned: bool,
    /// A selector may have come to its end.
    may_be_over: bool,
}

#[derive(Debug)]
struct FeedList {
    changes: watch::Receiver<u64>,
    /// Not every newcomer was looked for.
    stale: bool,
}

impl Following {
    pub(in crate::rpc) fn new(who: Who, kind: Kind) -> Self {
        let beat = Instant::now() + who.period();
        Self {
            who: Arc::new(who),
            kind,
            chosen: vec![],
            legs: vec![],
            turns: Turns::default(),
            ready: VecDeque::new(),
            ended: VecDeque::new(),
            failure: None,
            list: None,
            heartbeat: Box::pin(sleep_until(beat)),
            turned: true,
            may_be_over: true,
        }
    }

    pub(in crate::rpc) fn who(&self) -> &Arc<Who> {
        &self.who
    }

    pub(in crate::rpc) fn selectors(&self) -> usize {
        self.chosen.len()
    }

    pub(in crate::rpc) fn has(&self, id: u32) -> bool {
        self.chosen.iter().any(|chosen| chosen.id() == id)
    }

    /// Adds a selector, or replaces the one of its id.
    pub(in crate::rpc) fn put(&mut self, opened: Opened) -> Result<(), Status> {
        let id = opened.chosen.id();
        let others = self.legs.iter().filter(|leg| leg.selector() != id).count();
        room_for(others + opened.legs.len())?;
        self.remove(id);
        if opened.chosen.globs.is_some() {
            let watch = || {
                Box::new(FeedList {
                    changes: self.who.context.hub.watch_feeds(),
                    stale: true,
                })
            };
            // What came since its feeds were looked for has still to join.
            self.list.get_or_insert_with(watch).stale = true;
        }
        self.chosen.push(opened.chosen);
        self.ready.extend(opened.narrowed);
        for mut leg in opened.legs {
            self.ready.extend(leg.introduction());
            self.legs.push(leg);
        }
        self.may_be_over = true;
        Ok(())
    }

    /// Removes a selector; whether there was one.
    pub(in crate::rpc) fn remove(&mut self, id: u32) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|chosen| chosen.id() != id);
        self.legs.retain(|leg| leg.selector() != id);
        if self.chosen.iter().all(|chosen| chosen.globs.is_none()) {
            self.list = None;
        }
        self.chosen.len() < before
    }

    pub(super) fn chosen_mut(&mut self, id: u32) -> Option<&mut Chosen> {
        self.chosen.iter_mut().find(|chosen| chosen.id() == id)
    }

    pub(super) fn legs_of(&mut self, id: u32) -> impl Iterator<Item = &mut Leg> {
        self.legs.iter_mut().filter(move |leg| leg.selector() == id)
    }

    /// What has happened and has to be said before anything else does.
    pub(in crate::rpc) fn pop_ready(&mut self) -> Option<Happening> {
        let response = self.ready.pop_front().map(Happening::Response);
        response.or_else(|| {
            let (id, why) = self.ended.pop_front()?;
            Some(Happening::Ended(id, why))
        })
    }

    /// What happens next. Safe to cancel.
    pub(in crate::rpc) async fn next(&mut self) -> Result<Happening, Status> {
        loop {
            if let Some(happening) = self.pop_ready() {
                return Ok(happening);
            }
            if let Some(failure) = self.failure.take() {
                return Err(*failure);
            }
            // Also when busy: a subscriber that is behind must hear how far. But not only that.
            if self.turned && self.heartbeat.deadline() <= Instant::now() {
                self.beat();
                continue;
            }
            self.turned = true;
            if self.list_moved() {
                // In a box, as all that is rare: most streams wait, and each pays for the largest.
                Box::pin(self.join()).await?;
                continue;
            }
            if std::mem::take(&mut self.may_be_over) {
                if self.look_for_ends() {
                    return Ok(Happening::Over);
                }
                continue;
            }
            if let Some((at, step)) = self.come().await {
                self.take(at, step)?;
            }
        }
    }

    /// Waits until a selector has something to say; `None`: something else is to be seen to.
    async fn come(&mut self) -> Option<(usize, Result<Step, FollowError>)> {
        let heartbeat = self.heartbeat.as_mut();
        if let ([leg], None) = (self.legs.as_mut_slice(), &self.list) {
            let come = leg.come();
            tokio::pin!(come);
            if let Some(step) = come.as_mut().now_or_never() {
                return Some((0, step));
            }
            // An idle stream keeps nothing that it can do without.
            self.ready.shrink_to_fit();
            return tokio::select! {
                step = come => Some((0, step)),
                () = heartbeat => None,
            };
        }
        Box::pin(self.come_of_many()).await
    }

    async fn come_of_many(&mut self) -> Option<(usize, Result<Step, FollowError>)> {
        for at in self.order() {
            if let Some(leg) = self.legs.get_mut(at)
                && let Some(step) = leg.come().now_or_never()
            {
                return Some((at, step));
            }
        }
        self.ready.shrink_to_fit();
        let alarm = self.alarm();
        let legs = self.legs.iter_mut().enumerate();
        let waits = legs.filter(|(_, leg)| !leg.is_done()).map(|(at, leg)| {
            let come = async move { (at, leg.come().await) };
            Box::pin(come)
        });
        let waits: Vec<_> = waits.collect();
        let first = async {
            if waits.is_empty() {
                return std::future::pending().await;
            }
            select_all(waits).await.0
        };
        let list = async {
            match &mut self.list {
                Some(list) => {
                    drop(list.changes.changed().await);
                    list.stale = true;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            step = first => Some(step),
            () = self.heartbeat.as_mut() => None,
            () = list => None,
            () = alarm => {
                self.may_be_over = true;
                None
            }
        }
    }

    /// The legs that go on, whose turn it is first.
    fn order(&self) -> Vec<usize> {
        let going = self.legs.iter().enumerate();
        let going = going.filter(|(_, leg)| !leg.is_done());
        let mut ranked: Vec<_> = going
            .map(|(at, leg)| (self.turns.rank(leg.share), at))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, at)| at).collect()
    }

    /// Rings when a selector stops to grow.
    fn alarm(&self) -> impl Future<Output = ()> + Send + use<> {
        let globbed = self.chosen.iter().filter_map(|c| c.globs.as_deref());
        let now = model::now();
        let next = globbed.filter_map(super::chosen::Globbed::ends_at);
        let next = next.filter(|time| *time > now).min();
        let left = next.map(|time| Duration::from_nanos((time - now).unsigned_abs()));
        async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Says what a leg came upon.
    fn take(&mut self, at: usize, step: Result<Step, FollowError>) -> Result<(), Status> {
        let step = match step {
            Ok(step @ Step::TooSlow) => {
                if let Some(leg) = self.legs.get_mut(at) {
                    leg.say(step, &mut self.ready);
                }
                let failure = status::too_slow();
                let reconnect = self.reconnect(failure.message());
                self.ready.push_back(reconnect);
                self.failure = Some(Box::new(failure));
                return Ok(());
            }
            Ok(step) => step,
            Err(error @ FollowError::FeedDeleted { .. }) => return self.leave(at, &error),
            // What it needs is not there for this one; the others go on.
            Err(error @ (FollowError::ViewsFull | FollowError::ViewTooLarge { .. })) => {
                let id = self.legs.get(at).map_or(0, Leg::selector);
                return self.end(id, status::follow(&error));
            }
            Err(error @ (FollowError::Stopping | FollowError::Store(_))) => {
                return Err(status::follow(&error));
            }
        };
        if let Some(leg) = self.legs.get_mut(at) {
            leg.trace(&step, &self.who);
            leg.say(step, &mut self.ready);
            let bytes = self.ready.iter().map(Outgoing::bytes).sum();
            self.turns.take(&mut leg.share, bytes);
            self.may_be_over |= leg.is_done();
        }
        self.sign();
        Ok(())
    }

    /// A feed was deleted.
    fn leave(&mut self, at: usize, deleted: &FollowError) -> Result<(), Status> {
        let Some(leg) = self.legs.get(at) else {
            return Ok(());
        };
        let id = leg.selector();
        let chosen = self.chosen.iter_mut().find(|chosen| chosen.id() == id);
        let globs = chosen.and_then(|chosen| chosen.globs.as_deref_mut());
        if globs.is_none() && self.kind == Kind::Subscribe {
            return Err(status::follow(deleted));
        }
        let mut leg = self.legs.remove(at);
        let cursor = leg.leave(&mut self.ready);
        match globs {
            Some(globs) => {
                globs.left(leg.feed().name().clone(), cursor);
                self.may_be_over = true;
                if let Some(list) = &mut self.list {
                    // Another one may have its name by now.
                    list.stale = true;
                }
                Ok(())
            }
            None => self.end(id, status::follow(deleted)),
        }
    }

    /// Ends a selector that cannot go on; of a Subscribe, all of it.
    fn end(&mut self, id: u32, why: Status) -> Result<(), Status> {
        if self.kind == Kind::Subscribe {
            return Err(why);
        }
        self.remove(id);
        self.ended.push_back((id, Some(Box::new(why))));
        Ok(())
    }

    /// Looks for selectors that are at their end; whether the stream is.
    fn look_for_ends(&mut self) -> bool {
        let legs = &self.legs;
        let over = |chosen: &Chosen| {
            let mut legs = legs.iter().filter(|leg| leg.selector() == chosen.id());
            !chosen.may_grow() && legs.all(Leg::is_done)
        };
        let over: Vec<u32> = self
            .chosen
            .iter()
            .filter(|c| over(c))
            .map(Chosen::id)
            .collect();
        if self.kind == Kind::Subscribe {
            return over.len() == self.chosen.len();
        }
        for id in over {
            self.remove(id);
            self.ended.push_back((id, None));
        }
        false
    }

    fn list_moved(&self) -> bool {
        let moved = |list: &FeedList| list.stale || list.changes.has_changed().unwrap_or(false);
        self.list.as_deref().is_some_and(moved)
    }

    /// Lets feeds join that are new.
    async fn join(&mut self) -> Result<(), Status> {
        if let Some(list) = &mut self.list {
            // Until the last one joined: this may be cancelled.
            list.stale = true;
            list.changes.mark_unchanged();
        }
        for (feed, wanted) in self.newcomers() {
            let id = wanted.selector;
            if self.legs.len() >= MAX_LEGS {
                return self.end(id, status::too_many_feeds(MAX_LEGS));
            }
            let mut leg = self.who.leg(&feed, wanted, Begun::Elsewhere).await?;
            self.ready.extend(leg.introduction());
            self.legs.push(leg);
            let chosen = self.chosen_mut(id);
            if let Some(globs) = chosen.and_then(|chosen| chosen.globs.as_deref_mut()) {
                globs.joined(feed.name());
            }
        }
        if let Some(list) = &mut self.list {
            list.stale = false;
        }
        Ok(())
    }

    fn newcomers(&self) -> Vec<(Arc<crate::hub::Feed>, crate::hub::Wanted)> {
        let of = |chosen: &Chosen| {
            let mine = self.legs.iter().filter(|leg| leg.selector() == chosen.id());
            let there: HashSet<_> = mine.map(|leg| leg.feed().name()).collect();
            let globs = chosen.globs.as_deref();
            globs.map_or_else(Vec::new, |globs| globs.newcomers(&self.who, &there))
        };
        self.chosen.iter().flat_map(of).collect()
    }

    /// Fills in the resume token where a response carries one.
    fn sign(&mut self) {
        if !self.ready.iter_mut().any(|r| r.caught_up().is_some()) {
            return;
        }
        let token = self.frequent_token();
        let caught_up = self.ready.iter_mut().filter_map(Outgoing::caught_up);
        caught_up.for_each(|caught_up| caught_up.resume_token.clone_from(&token));
    }

    /// One heartbeat for each leg; the last one has the token.
    fn beat(&mut self) {
        let period = self.who.period();
        self.heartbeat.as_mut().reset(Instant::now() + period);
        self.turned = false;
        let going = self.legs.iter_mut().filter(|leg| !leg.is_done());
        going.for_each(|leg| leg.settle(&mut self.ready));
        let resume_token = self.frequent_token();
        let going = self.legs.iter().filter(|leg| !leg.is_done());
        let mut beats: Vec<_> = going.map(|leg| (leg.selector(), leg.heartbeat())).collect();
        if beats.is_empty() {
            // There is no feed yet; but the stream is alive.
            let first = self.chosen.first().map(Chosen::id);
            beats.extend(first.map(|id| (id, v1::Heartbeat::default())));
        }
        if let Some((_, last)) = beats.last_mut() {
            last.resume_token = resume_token;
        }
        let beats = beats.into_iter();
        self.ready
            .extend(beats.map(|(id, beat)| Outgoing::new(id, Event::Heartbeat(beat))));
    }

    fn frequent_token(&self) -> String {
        let asked: usize = self.chosen.iter().map(Chosen::asked_len).sum();
        if self.legs.len() > MAX_FREQUENT_TOKEN_LEGS || asked > MAX_FREQUENT_TOKEN_BYTES {
            return String::new();
        }
        let token = self.resume_token();
        if token.len() > MAX_FREQUENT_TOKEN_BYTES {
            String::new()
        } else {
            token
        }
    }

    fn resume_token(&self) -> String {
        let kept = |chosen: &Chosen| {
            let legs = self.legs.iter().filter(|leg| leg.selector() == chosen.id());
            let feeds = legs.map(|leg| KeptFeed::new(leg.feed().name().as_str(), &leg.resume()));
            let gone = chosen.globs.as_deref().into_iter();
            KeptSelector {
                id: chosen.id(),
                asked: Some(chosen.asked()),
                feeds: feeds.chain(gone.flat_map(|globs| globs.gone())).collect(),
            }
        };
        let token = Token {
            request: Some(self.who.request()),
            selectors: self.chosen.iter().map(kept).collect(),
        };
        token::issue(self.who.context.hub.secret(), &token)
    }

    /// Tells the client to come back, and why.
    pub(in crate::rpc) fn reconnect(&self, reason: &str) -> Outgoing {
        let reconnect = v1::Reconnect {
            resume_token: self.resume_token(),
            reason: reason.into(),
        };
        Outgoing::new(0, Event::Reconnect(reconnect))
    }
}
