//! Reading selectors: which feeds, which keys, from where to where, how much of it. Each mistake
//! names its field.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use tonic::Status;

use super::{request, status};
use crate::{
    hub::{
        BarsFidelity, Carried, End, Fidelity, KeyFilter, OpenBars, SlowAction, SlowPolicy, Start,
        Wanted,
    },
    model::{Cursor, FeedName, Globs},
    proto::{
        convert::wire_duration,
        v1::{self, end::At, fidelity::View, start::From},
    },
    store::Clock,
};

const MAX_KEYS: usize = 10_000;
const MAX_GLOBS: usize = 100;
const MAX_GLOB_BYTES: usize = 256;
const MAX_LAST_PER_KEY: u32 = 10_000;
const CONFLATE_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3_600);
const BAR_INTERVALS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);

/// Which feeds.
#[derive(Clone, Debug)]
pub(super) enum Feeds {
    One(FeedName),
    Matching { globs: Globs, exclude: Globs },
}

/// Where each feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(Start),
    /// At the subscriber's named cursor; the oldest record while there is none.
    NamedCursor,
}

/// What a selector asks for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub feeds: Feeds,
    pub place: Place,
    /// For each feed, but for its start.
    pub wanted: Wanted,
}

/// Whether a selector begins, or goes on from places of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    AsAsked,
    /// Where it was to start does not matter any more.
    Elsewhere,
}

/// Reads a selector that stands at `path` in its request; its messages say `id`.
pub(super) fn parse(
    path: &str,
    id: u32,
    selector: &v1::Selector,
    begins: Begins,
) -> Result<Selection, Status> {
    let field = |name: &str| format!("{path}.{name}");
    let feeds = feeds(path, selector)?;
    let filter = keys(path, selector)?;
    let fidelity = fidelity(&field("fidelity"), selector.fidelity.as_ref())?;
    let slow = slow_policy(&field("slow_policy"), selector.slow_policy.as_ref())?;
    agree(&field("slow_policy"), fidelity, slow)?;
    let (start_field, asked) = (field("start"), selector.start.as_ref());
    let place = match begins {
        Begins::AsAsked => {
            let place = start(&start_field, asked, &feeds)?;
            fits(&start_field, place, fidelity)?;
            place
        }
        Begins::Elsewhere => start(&start_field, asked, &feeds).unwrap_or(Place::At(Start::New)),
    };
    Ok(Selection {
        place,
        wanted: Wanted {
            selector: id,
            filter,
            start: Start::default(),
            end: end(&field("end"), selector.end.as_ref(), &feeds)?,
            fidelity,
            slow,
            carried: Carried::default(),
        },
        feeds,
    })
}

fn feeds(path: &str, selector: &v1::Selector) -> Result<Feeds, Status> {
    let field = |name: &str| format!("{path}.{name}");
    let invalid = |name: &str, text| Err(status::invalid_argument(&field(name), text));
    let exclude = globs(&field("exclude_feed_globs"), &selector.exclude_feed_globs)?;
    if selector.feed_globs.is_empty() {
        if !exclude.is_empty() {
            let text = "needs feed_globs; a selector of one feed excludes none";
            return invalid("exclude_feed_globs", text);
        }
        let name = request::feed_name(&field("feed"), &selector.feed)?;
        return Ok(Feeds::One(name));
    }
    if !selector.feed.is_empty() {
        let text = "and feed exclude each other; set one of them";
        return invalid("feed_globs", text);
    }
    Ok(Feeds::Matching {
        globs: globs(&field("feed_globs"), &selector.feed_globs)?,
        exclude,
    })
}

fn keys(path: &str, selector: &v1::Selector) -> Result<KeyFilter, Status> {
    let field = |name: &str| format!("{path}.{name}");
    let set = |name: &str, keys: &[String]| -> Result<HashSet<String>, Status> {
        if keys.len() > MAX_KEYS {
            let text = "has more than 10,000 keys; use globs, or follow the feed without them";
            return Err(status::invalid_argument(&field(name), text));
        }
        Ok(keys.iter().cloned().collect())
    };
    let include = set("keys", &selector.keys)?;
    Ok(KeyFilter {
        include: (!include.is_empty()).then_some(include),
        include_globs: globs(&field("key_globs"), &selector.key_globs)?,
        exclude: set("exclude_keys", &selector.exclude_keys)?,
        exclude_globs: globs(&field("exclude_key_globs"), &selector.exclude_key_globs)?,
        within: None,
    })
}

fn globs(field: &str, texts: &[String]) -> Result<Globs, Status> {
    if texts.len() > MAX_GLOBS {
        let text = "has more than 100 globs; join some with {a,b}";
        return Err(status::invalid_argument(field, text));
    }
    let of = |at: usize| format!("{field}[{at}]");
    if let Some(at) = texts.iter().position(|text| text.len() > MAX_GLOB_BYTES) {
        return Err(status::invalid_argument(&of(at), "is over 256 bytes"));
    }
    if let Some(at) = texts.iter().position(String::is_empty) {
        return Err(status::invalid_argument(
            &of(at),
            "is empty; * matches everything",
        ));
    }
    Globs::new(texts).map_err(|invalid| {
        let at = texts.iter().position(|text| *text == invalid.glob);
        let field = at.map_or_else(|| field.to_owned(), of);
        status::invalid_argument(&field, &invalid.to_string())
    })
}

/// How much of a feed; everything when absent.
pub(super) fn fidelity(field: &str, asked: Option<&v1::Fidelity>) -> Result<Fidelity, Status> {
    let Some(asked) = asked else {
        return Ok(Fidelity::Full);
    };
    let interval = |name: &str, asked: Option<&prost_types::Duration>| {
        let field = format!("{field}.{name}.interval");
        let missing = || status::invalid_argument(&field, "is missing");
        let interval = request::duration(&field, asked.ok_or_else(missing)?)?;
        Ok::<_, Status>((field, interval))
    };
    match &asked.view {
        None => {
            let text = "is empty; set one of its cases";
            Err(status::invalid_argument(field, text))
        }
        Some(View::Full(_)) => Ok(Fidelity::Full),
        Some(View::Conflate(conflate)) => {
            let (field, interval) = interval("conflate", conflate.interval.as_ref())?;
            if !CONFLATE_INTERVALS.contains(&interval) {
                return Err(status::invalid_argument(&field, "is 10 ms to 1 h"));
            }
            Ok(Fidelity::Conflate(interval))
        }
        Some(View::Bars(bars)) => {
            let (field, interval) = interval("bars", bars.interval.as_ref())?;
            if !BAR_INTERVALS.contains(&interval) {
                return Err(status::invalid_argument(&field, "is 1 s to 366 days"));
            }
            let open_bars = if bars.include_open {
                OpenBars::Sent
            } else {
                OpenBars::LeftOut
            };
            Ok(Fidelity::Bars(BarsFidelity {
                interval,
                open_bars,
            }))
        }
    }
}

/// A fidelity as users are told.
pub(super) fn wire_fidelity(fidelity: Fidelity) -> v1::Fidelity {
    let view = match fidelity {
        Fidelity::Full => View::Full(v1::Full {}),
        Fidelity::Conflate(interval) => View::Conflate(v1::Conflate {
            interval: Some(wire_duration(interval)),
        }),
        Fidelity::Bars(bars) => View::Bars(v1::Bars {
            interval: Some(wire_duration(bars.interval)),
            include_open: bars.open_bars == OpenBars::Sent,
        }),
    };
    v1::Fidelity { view: Some(view) }
}

/// What happens to a slow one; it reads on when absent.
pub(super) fn slow_policy(
    field: &str,
    asked: Option<&v1::SlowPolicy>,
) -> Result<SlowPolicy, Status> {
    let Some(asked) = asked else {
        return Ok(SlowPolicy::default());
    };
    let invalid = |name: &str, text| {
        let field = format!("{field}.{name}");
        Err(status::invalid_argument(&field, text))
    };
    let action = match v1::SlowAction::try_from(asked.action) {
        Ok(v1::SlowAction::Unspecified | v1::SlowAction::CatchUp) => SlowAction::CatchUp,
        Ok(v1::SlowAction::Conflate) => SlowAction::Conflate,
        Ok(v1::SlowAction::JumpToTail) => SlowAction::JumpToTail,
        Ok(v1::SlowAction::Disconnect) => SlowAction::Disconnect,
        Err(_) => return invalid("action", "is not a value of this enum"),
    };
    let max_lag = asked.max_lag.as_ref();
    let max_lag = max_lag.map(|lag| request::duration(&format!("{field}.max_lag"), lag));
    let max_lag = max_lag.transpose()?;
    if max_lag.is_some_and(|lag| lag.is_zero()) {
        return invalid("max_lag", "is more than 0; leave it out for no limit");
    }
    let max_lag_records = Some(asked.max_lag_records).filter(|records| *records > 0);
    if action != SlowAction::CatchUp && max_lag.is_none() && max_lag_records.is_none() {
        let text = "needs max_lag_records or max_lag: say from where on it is too slow";
        return invalid("action", text);
    }
    Ok(SlowPolicy {
        max_lag_records,
        max_lag,
        action,
    })
}

/// Whether a fidelity can have a slow policy.
pub(super) fn agree(field: &str, fidelity: Fidelity, slow: SlowPolicy) -> Result<(), Status> {
    match (fidelity, slow.action) {
        (Fidelity::Bars(_), SlowAction::Conflate | SlowAction::JumpToTail) => {
            let text = "is CATCH_UP or DISCONNECT for BARS: a bar is made of all its records";
            Err(status::invalid_argument(&format!("{field}.action"), text))
        }
        (Fidelity::Bars(_), SlowAction::CatchUp | SlowAction::Disconnect)
        | (Fidelity::Full | Fidelity::Conflate(_), _) => Ok(()),
    }
}

/// Whether a fidelity can begin at a place.
fn fits(field: &str, place: Place, fidelity: Fidelity) -> Result<(), Status> {
    match (place, fidelity) {
        (Place::At(Start::Snapshot), Fidelity::Bars(_)) => {
            let text = "is not a snapshot for BARS; start where the bars are to begin";
            Err(status::invalid_argument(field, text))
        }
        (Place::At(Start::LastPerKey(_)), Fidelity::Conflate(_) | Fidelity::Bars(_)) => {
            let text = "is last_per_key only for FULL; a snapshot is the latest of each key";
            Err(status::invalid_argument(field, text))
        }
        (Place::At(_) | Place::NamedCursor, _) => Ok(()),
    }
}

fn start(field: &str, start: Option<&v1::Start>, feeds: &Feeds) -> Result<Place, Status> {
    let invalid = |message: &str| Err(status::invalid_argument(field, message));
    let Some(start) = start else {
        return Ok(Place::At(Start::New));
    };
    let start = match (&start.from, feeds) {
        (None, _) => return invalid("is empty; set one of its cases"),
        (Some(From::Offset(_) | From::Cursor(_)), Feeds::Matching { .. }) => {
            return invalid("is a place of one feed; with feed_globs start otherwise");
        }
        (Some(From::Offset(offset)), Feeds::One(_)) => Start::Offset(*offset),
        (Some(From::Cursor(cursor)), Feeds::One(feed)) => {
            if !cursor.feed.is_empty() && cursor.feed != feed.as_str() {
                return invalid(&format!(
                    "is a cursor of feed \"{}\"; use one of this feed",
                    cursor.feed
                ));
            }
            Start::Cursor(Cursor {
                epoch: cursor.epoch,
                offset: cursor.offset,
            })
        }
        (Some(From::Time(time)), _) => match v1::Clock::try_from(time.clock) {
            Ok(v1::Clock::Unspecified | v1::Clock::Event) => {
                Start::Time(Clock::Event, time.unix_nanos)
            }
            Ok(v1::Clock::Ingest) => Start::Time(Clock::Ingest, time.unix_nanos),
            Err(_) => return invalid("has a clock that is not a value of this enum"),
        },
        (Some(From::Earliest(_)), _) => Start::Earliest,
        (Some(From::New(_)), _) => Start::New,
        (Some(From::LastPerKey(n)), _) if (1..=MAX_LAST_PER_KEY).contains(n) => {
            Start::LastPerKey(*n)
        }
        (Some(From::LastPerKey(_)), _) => return invalid("last_per_key is 1 to 10,000"),
        (Some(From::Snapshot(_)), _) => Start::Snapshot,
        (Some(From::NamedCursor(_)), _) => return Ok(Place::NamedCursor),
    };
    Ok(Place::At(start))
}

fn end(field: &str, end: Option<&v1::End>, feeds: &Feeds) -> Result<End, Status> {
    match (end.and_then(|end| end.at.as_ref()), feeds) {
        (None, _) => Ok(End::Never),
        (Some(At::Offset(_)), Feeds::Matching { .. }) => {
            let text = "is an offset of one feed; with feed_globs end at a time or now";
            Err(status::invalid_argument(field, text))
        }
        (Some(At::Offset(offset)), Feeds::One(_)) => Ok(End::Offset(*offset)),
        (Some(At::Now(_)), _) => Ok(End::Now),
        (Some(At::IngestTimeUnixNanos(time)), _) => Ok(End::IngestTime(*time)),
    }
}

#[cfg(test)]
#[expect(
    clippy::unnecessary_wraps,
    clippy::too_many_lines,
    reason = "the fields are optional, and the cases are a list"
)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn base() -> v1::Selector {
        v1::Selector {
            feed: "f".into(),
            ..v1::Selector::default()
        }
    }

    fn read(change: impl FnOnce(&mut v1::Selector)) -> Result<Selection, Status> {
        let mut selector = base();
        change(&mut selector);
        parse("selectors[3]", 9, &selector, Begins::AsAsked)
    }

    /// The field that is refused.
    fn refused(change: impl FnOnce(&mut v1::Selector)) -> String {
        let refused = read(change).unwrap_err();
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        let field = violations.first().unwrap().field.clone();
        field.strip_prefix("selectors[3].").unwrap().to_owned()
    }

    fn seconds(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn conflate(interval: Option<prost_types::Duration>) -> Option<v1::Fidelity> {
        let view = Some(View::Conflate(v1::Conflate { interval }));
        Some(v1::Fidelity { view })
    }

    fn bars(interval: Option<prost_types::Duration>) -> Option<v1::Fidelity> {
        let view = View::Bars(v1::Bars {
            interval,
            include_open: true,
        });
        Some(v1::Fidelity { view: Some(view) })
    }

    fn from(from: From) -> Option<v1::Start> {
        Some(v1::Start { from: Some(from) })
    }

    fn slow(action: v1::SlowAction, records: u64) -> Option<v1::SlowPolicy> {
        Some(v1::SlowPolicy {
            max_lag_records: records,
            max_lag: None,
            action: action.into(),
        })
    }

    #[test]
    fn a_selector_is_read_as_it_was_meant() {
        let all = read(|_| {}).unwrap();
        assert!(all.wanted.filter.is_all());
        assert_eq!(all.place, Place::At(Start::New));
        assert_eq!(all.wanted.selector, 9);
        let some = read(|s| {
            s.key_globs = vec!["pi*".into(), "door?".into()];
            s.exclude_keys = vec!["pi3".into()];
            s.exclude_key_globs = vec!["pi9*".into()];
            s.keys = vec!["main".into()];
            s.fidelity = bars(seconds(60, 0));
            s.slow_policy = slow(v1::SlowAction::Disconnect, 5);
            s.start = from(From::NamedCursor(v1::NamedCursor {}));
        })
        .unwrap();
        let wanted =
            ["pi3", "pi17", "pi91", "door1", "main", "x"].map(|k| some.wanted.filter.wants(k));
        assert_eq!(wanted, [false, true, false, true, true, false]);
        assert_eq!(some.place, Place::NamedCursor);
        let fidelity = Fidelity::Bars(BarsFidelity {
            interval: Duration::from_secs(60),
            open_bars: OpenBars::Sent,
        });
        assert_eq!(some.wanted.fidelity, fidelity);
        assert_eq!(Some(wire_fidelity(fidelity)), bars(seconds(60, 0)));
        let policy = SlowPolicy {
            max_lag_records: Some(5),
            max_lag: None,
            action: SlowAction::Disconnect,
        };
        assert_eq!(some.wanted.slow, policy);
        let globbed = read(|s| {
            s.feed.clear();
            s.feed_globs = vec!["plant.*".into()];
            s.exclude_feed_globs = vec!["*.test".into()];
        })
        .unwrap();
        let Feeds::Matching { globs, exclude } = globbed.feeds else {
            panic!("{globbed:?}");
        };
        assert!(globs.matches("plant.a") && exclude.matches("plant.test"));
    }

    #[test]
    fn each_mistake_names_its_field() {
        let globs = |n: usize| vec!["a*".to_owned(); n];
        assert_eq!(
            refused(|s| s.key_globs = vec!["a".into(), "b[".into()]),
            "key_globs[1]"
        );
        assert_eq!(
            refused(|s| s.key_globs = vec![String::new()]),
            "key_globs[0]"
        );
        assert_eq!(refused(|s| s.key_globs = globs(101)), "key_globs");
        assert_eq!(
            refused(|s| s.exclude_key_globs = globs(101)),
            "exclude_key_globs"
        );
        assert_eq!(
            refused(|s| s.exclude_key_globs = vec!["x".repeat(257)]),
            "exclude_key_globs[0]"
        );
        assert_eq!(refused(|s| s.keys = vec!["k".into(); 10_001]), "keys");
        assert_eq!(
            refused(|s| s.exclude_keys = vec!["k".into(); 10_001]),
            "exclude_keys"
        );
        assert_eq!(refused(|s| s.feed.clear()), "feed");
        assert_eq!(refused(|s| s.feed_globs = globs(1)), "feed_globs");
        assert_eq!(
            refused(|s| s.exclude_feed_globs = globs(1)),
            "exclude_feed_globs"
        );
        let many = |s: &mut v1::Selector| {
            s.feed.clear();
            s.feed_globs = vec!["a".into(), "{".into()];
        };
        assert_eq!(refused(many), "feed_globs[1]");
        for bad in [
            None,
            seconds(0, 9_999_999),
            seconds(3_600, 1),
            seconds(-1, 0),
        ] {
            assert_eq!(
                refused(|s| s.fidelity = conflate(bad)),
                "fidelity.conflate.interval"
            );
        }
        for bad in [
            None,
            seconds(0, 999_999_999),
            seconds(366 * 86_400, 1),
            seconds(1, -1),
        ] {
            assert_eq!(
                refused(|s| s.fidelity = bars(bad)),
                "fidelity.bars.interval"
            );
        }
        assert_eq!(
            refused(|s| s.fidelity = Some(v1::Fidelity { view: None })),
            "fidelity"
        );
        assert!(read(|s| s.fidelity = conflate(seconds(0, 10_000_000))).is_ok());
        assert!(read(|s| s.fidelity = bars(seconds(366 * 86_400, 0))).is_ok());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        use v1::SlowAction as Slow;
        for action in [Slow::Conflate, Slow::JumpToTail, Slow::Disconnect] {
            assert_eq!(
                refused(|s| s.slow_policy = slow(action, 0)),
                "slow_policy.action"
            );
            assert!(read(|s| s.slow_policy = slow(action, 1)).is_ok());
        }
        let zero = |s: &mut v1::Selector| {
            s.slow_policy = Some(v1::SlowPolicy {
                max_lag: seconds(0, 0),
                ..v1::SlowPolicy::default()
            });
        };
        assert_eq!(refused(zero), "slow_policy.max_lag");
        let unknown = |s: &mut v1::Selector| {
            s.slow_policy = Some(v1::SlowPolicy {
                action: 77,
                ..v1::SlowPolicy::default()
            });
        };
        assert_eq!(refused(unknown), "slow_policy.action");
        for action in [Slow::Conflate, Slow::JumpToTail] {
            let slow_bars = |s: &mut v1::Selector| {
                s.fidelity = bars(seconds(1, 0));
                s.slow_policy = slow(action, 1);
            };
            assert_eq!(refused(slow_bars), "slow_policy.action");
        }
        let snapshot = || from(From::Snapshot(v1::SnapshotStart {}));
        let snapshot_bars = |s: &mut v1::Selector| {
            s.fidelity = bars(seconds(1, 0));
            s.start = snapshot();
        };
        assert_eq!(refused(snapshot_bars), "start");
        assert!(read(|s| s.start = snapshot()).is_ok());
        let last_conflated = |s: &mut v1::Selector| {
            s.fidelity = conflate(seconds(1, 0));
            s.start = from(From::LastPerKey(1));
        };
        assert_eq!(refused(last_conflated), "start");
        let elsewhere = v1::Cursor {
            feed: "g".into(),
            ..v1::Cursor::default()
        };
        assert_eq!(
            refused(|s| s.start = from(From::Cursor(elsewhere))),
            "start"
        );
        for place in [From::Offset(0), From::Cursor(v1::Cursor::default())] {
            let one_place = |s: &mut v1::Selector| {
                s.feed.clear();
                s.feed_globs = vec!["*".into()];
                s.start = from(place);
            };
            assert_eq!(refused(one_place), "start");
        }
        let one_end = |s: &mut v1::Selector| {
            s.feed.clear();
            s.feed_globs = vec!["*".into()];
            s.end = Some(v1::End {
                at: Some(At::Offset(4)),
            });
        };
        assert_eq!(refused(one_end), "end");
    }

    #[test]
    fn a_resumed_selector_need_not_begin_where_it_was_asked_to() {
        let mut selector = base();
        selector.fidelity = bars(seconds(1, 0));
        selector.start = from(From::Snapshot(v1::SnapshotStart {}));
        assert!(parse("t", 0, &selector, Begins::Elsewhere).is_ok());
        assert!(parse("t", 0, &selector, Begins::AsAsked).is_err());
    }
}
