//! Selectors: from plan to request, and what each must do when it begins.

use std::time::Duration;

use ringfeed::{
    model::{Cursor, Epoch, Offset, Span, UnixNanos},
    proto::{
        convert::wire_duration,
        v1::{self, end::At, fidelity::View, start::From},
    },
};

use super::{
    history::{
        EndPlan, FEED_GLOB, FEEDS, FeedsPlan, FidelityPlan, KEY_GLOBS, SelectorPlan, SlowPlan,
        StartPlan,
    },
    model::{Life, Stored, Truth},
};

/// What this server can do of the API.
pub(super) const SESSIONS: bool = true;
const GLOBS: bool = true;
const VIEWS: bool = true;
const BARS: bool = true;

/// Where one feed of a selector begins and ends.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub feed: String,
    pub begin: Begin,
    /// Before `until` only these.
    pub pick: Option<Pick>,
    pub end: Ends,
}

#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub offsets: Vec<Offset>,
    pub until: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    At(Cursor),
    /// A place that is not of this life: a gap EPOCH_CHANGED first.
    Elsewhere(Cursor),
    /// A snapshot, at this place or a little before.
    Snapshot(Cursor),
    /// At the first offset of whatever life the feed has by then.
    Joining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Never,
    At(Offset),
    IngestTime(UnixNanos),
}

impl Ends {
    /// Whether one that is settled to `offset` has all that it gets of this life.
    pub(super) fn is_reached(self, life: &Life, offset: Offset) -> bool {
        let tail = life.bounds.tail;
        match self {
            Self::Never => offset >= tail,
            Self::At(end) => offset >= end.min(tail),
            Self::IngestTime(time) => {
                let rest = life.range(Span::new(offset, tail));
                let early = |stored: &Stored| stored.record.ingest_time_unix_nanos < time;
                !rest.iter().any(early)
            }
        }
    }
}

/// The request of a plan, of those feeds that there are.
pub(super) fn request(plan: &SelectorPlan, truth: &Truth, now: UnixNanos) -> v1::Selector {
    let there: Vec<&str> = truth.feeds().collect();
    let (feed, feed_globs, without) = match plan.feeds {
        FeedsPlan::Globs { without } if GLOBS => {
            let without = without.map(|nth| FEEDS[nth].to_owned());
            (String::new(), vec![FEED_GLOB.to_owned()], without)
        }
        FeedsPlan::Globs { .. } => (there[0].to_owned(), vec![], None),
        FeedsPlan::One(nth) => (there[nth % there.len()].to_owned(), vec![], None),
    };
    let fidelity = fidelity(plan.fidelity);
    let start = start(plan, truth.present(&feed));
    let end = end(plan.end, truth.present(&feed), now);
    let globs = |of: &[usize]| -> Vec<String> {
        let of = of.iter().filter(|_| GLOBS);
        of.map(|nth| KEY_GLOBS[*nth].0.to_owned()).collect()
    };
    v1::Selector {
        feed,
        feed_globs,
        exclude_feed_globs: without.into_iter().collect(),
        keys: plan.keys.clone(),
        key_globs: globs(&plan.key_globs),
        exclude_keys: plan.exclude.clone(),
        exclude_key_globs: globs(&plan.exclude_globs),
        start: Some(v1::Start { from: Some(start) }),
        end: end.map(|at| v1::End { at: Some(at) }),
        slow_policy: slow_policy(plan.slow, fidelity.as_ref()),
        fidelity,
    }
}

pub(super) fn fidelity(plan: FidelityPlan) -> Option<v1::Fidelity> {
    let interval = |interval: Duration| Some(wire_duration(interval));
    let view = match plan {
        FidelityPlan::Conflate(of) if VIEWS => View::Conflate(v1::Conflate {
            interval: interval(of),
        }),
        FidelityPlan::Bars { interval: of, open } if BARS => View::Bars(v1::Bars {
            interval: interval(of),
            include_open: open,
        }),
        FidelityPlan::Full | FidelityPlan::Conflate(_) | FidelityPlan::Bars { .. } => {
            View::Full(v1::Full {})
        }
    };
    Some(v1::Fidelity { view: Some(view) })
}

/// Not of bars, which may neither jump nor be conflated. Of CONFLATE it is not in force.
pub(super) fn slow_policy(
    plan: SlowPlan,
    fidelity: Option<&v1::Fidelity>,
) -> Option<v1::SlowPolicy> {
    let (action, lag) = match plan {
        SlowPlan::Conflate(lag) if !is_bars(fidelity) => (v1::SlowAction::Conflate, lag),
        SlowPlan::Jump(lag) if !is_bars(fidelity) => (v1::SlowAction::JumpToTail, lag),
        SlowPlan::Disconnect(lag) if !is_bars(fidelity) => (v1::SlowAction::Disconnect, lag),
        _ => (v1::SlowAction::CatchUp, 0),
    };
    VIEWS.then(|| v1::SlowPolicy {
        max_lag_records: lag,
        max_lag: None,
        action: action.into(),
    })
}

pub(super) fn is_bars(fidelity: Option<&v1::Fidelity>) -> bool {
    matches!(fidelity.and_then(|f| f.view.as_ref()), Some(View::Bars(_)))
}

/// What a selector became by changes may not be asked for as it began.
pub(super) fn make_askable(selector: &mut v1::Selector) {
    let start = selector
        .start
        .as_ref()
        .and_then(|start| start.from.as_ref());
    let fits = match start {
        Some(From::Snapshot(_)) => !is_bars(selector.fidelity.as_ref()),
        Some(From::LastPerKey(_)) => is_full(selector.fidelity.as_ref()),
        _ => true,
    };
    if !fits {
        let from = Some(From::Earliest(v1::Earliest {}));
        selector.start = Some(v1::Start { from });
    }
}

pub(super) fn is_full(fidelity: Option<&v1::Fidelity>) -> bool {
    let view = fidelity.and_then(|fidelity| fidelity.view.as_ref());
    matches!(view, None | Some(View::Full(_)))
}

/// `life` is absent for globs, which have no offsets.
fn start(plan: &SelectorPlan, life: Option<&Life>) -> From {
    let place = |percent: u64| {
        life.map(|life| {
            let (head, tail) = (life.bounds.head, life.bounds.tail);
            (life, head + (tail - head) * percent / 100)
        })
    };
    let time = |percent: u64, of: fn(&v1::Record) -> i64, clock: v1::Clock| {
        let (life, at) = place(percent)?;
        let near = life.records.partition_point(|r| r.offset < at);
        let record = life.records.get(near).or_else(|| life.records.last())?;
        Some(From::Time(v1::TimeStart {
            unix_nanos: of(&record.record),
            clock: clock.into(),
        }))
    };
    let found = match plan.start {
        StartPlan::Earliest => None,
        StartPlan::New => Some(From::New(v1::New {})),
        StartPlan::Offset(percent) => place(percent).map(|(_, at)| From::Offset(at)),
        StartPlan::Cursor(percent) => place(percent).map(|(life, offset)| {
            From::Cursor(v1::Cursor {
                feed: String::new(),
                epoch: life.epoch,
                offset,
            })
        }),
        StartPlan::Event(percent) => {
            let of = |r: &v1::Record| r.event_time_unix_nanos.unwrap_or_default();
            time(percent, of, v1::Clock::Event)
        }
        StartPlan::Ingest(percent) => {
            time(percent, |r| r.ingest_time_unix_nanos, v1::Clock::Ingest)
        }
        StartPlan::LastPerKey(n) if is_full(fidelity(plan.fidelity).as_ref()) => {
            Some(From::LastPerKey(n))
        }
        StartPlan::Snapshot if VIEWS && !is_bars(fidelity(plan.fidelity).as_ref()) => {
            Some(From::Snapshot(v1::SnapshotStart {}))
        }
        StartPlan::Named if SESSIONS => Some(From::NamedCursor(v1::NamedCursor {})),
        StartPlan::LastPerKey(_) | StartPlan::Snapshot | StartPlan::Named => None,
    };
    found.unwrap_or(From::Earliest(v1::Earliest {}))
}

fn end(plan: EndPlan, life: Option<&Life>, now: UnixNanos) -> Option<At> {
    match plan {
        EndPlan::Never => None,
        EndPlan::Now => Some(At::Now(v1::Now {})),
        EndPlan::Offset(more) => life.map(|life| At::Offset(life.bounds.tail + more)),
        EndPlan::IngestNow => Some(At::IngestTimeUnixNanos(now)),
    }
}

/// Whether a selector wants a key: worked out by hand, not by globs.
pub(super) fn wants(selector: &v1::Selector, key: &str) -> bool {
    let found = |globs: &[String]| {
        let of = |glob: &String| KEY_GLOBS.iter().find(|known| known.0 == glob);
        let mut known = globs.iter().filter_map(of);
        known.any(|(_, finds)| finds(key))
    };
    let named = |keys: &[String]| keys.iter().any(|named| named == key);
    let all = selector.keys.is_empty() && selector.key_globs.is_empty();
    let included = all || named(&selector.keys) || found(&selector.key_globs);
    included && !named(&selector.exclude_keys) && !found(&selector.exclude_key_globs)
}

/// The feeds that a selector follows, of those that there are.
pub(super) fn feeds_of(selector: &v1::Selector, truth: &Truth) -> Vec<String> {
    if selector.feed_globs.is_empty() {
        return vec![selector.feed.clone()];
    }
    let there = truth.feeds().filter(|feed| follows(selector, feed));
    there.map(str::to_owned).collect()
}

pub(super) fn follows(selector: &v1::Selector, feed: &str) -> bool {
    if selector.feed_globs.is_empty() {
        return selector.feed == feed;
    }
    !selector.exclude_feed_globs.iter().any(|out| out == feed)
}

/// Where the feeds of a selector begin if it begins now.
pub(super) fn places(
    selector: &v1::Selector,
    truth: &Truth,
    named: impl Fn(&str) -> Option<Cursor>,
) -> Vec<Place> {
    let feeds = feeds_of(selector, truth).into_iter();
    let there = feeds.filter_map(|feed| {
        let life = truth.present(&feed)?;
        let named = named(&feed);
        Some(place(selector, feed, life, named))
    });
    there.collect()
}

fn place(selector: &v1::Selector, feed: String, life: &Life, named: Option<Cursor>) -> Place {
    let bounds = life.bounds;
    let at = |offset: Offset| Begin::At(cursor(life.epoch, offset));
    let from = selector
        .start
        .as_ref()
        .and_then(|start| start.from.as_ref());
    let mut pick = None;
    let begin = match from {
        None | Some(From::New(_)) => at(bounds.tail),
        Some(From::Earliest(_)) => at(bounds.head),
        Some(From::Offset(offset)) => present(life, cursor(life.epoch, *offset)),
        Some(From::Cursor(place)) => present(life, cursor(place.epoch, place.offset)),
        Some(From::NamedCursor(_)) => {
            named.map_or_else(|| at(bounds.head), |named| present(life, named))
        }
        Some(From::Time(time)) if time.clock() == v1::Clock::Ingest => {
            at(life.first(|r| r.ingest_time_unix_nanos >= time.unix_nanos))
        }
        Some(From::Time(time)) => {
            at(life.first(|r| r.event_time_unix_nanos >= Some(time.unix_nanos)))
        }
        Some(From::LastPerKey(n)) => {
            let offsets = life.last_of_each(*n as usize, |key| wants(selector, key));
            let first = offsets.first().copied().unwrap_or(bounds.tail);
            let until = bounds.tail;
            pick = Some(Pick { offsets, until });
            at(first)
        }
        Some(From::Snapshot(_)) => Begin::Snapshot(cursor(life.epoch, bounds.tail)),
    };
    let end = match selector.end.as_ref().and_then(|end| end.at.as_ref()) {
        None => Ends::Never,
        Some(At::Offset(offset)) => Ends::At(*offset),
        Some(At::Now(_)) => Ends::At(bounds.tail),
        Some(At::IngestTimeUnixNanos(time)) => Ends::IngestTime(*time),
    };
    Place {
        feed,
        begin,
        pick,
        end,
    }
}

fn present(life: &Life, wanted: Cursor) -> Begin {
    let same = wanted.epoch == life.epoch || wanted.epoch == 0;
    if same && wanted.offset <= life.bounds.tail {
        Begin::At(cursor(life.epoch, wanted.offset))
    } else {
        Begin::Elsewhere(wanted)
    }
}

fn cursor(epoch: Epoch, offset: Offset) -> Cursor {
    Cursor { epoch, offset }
}
