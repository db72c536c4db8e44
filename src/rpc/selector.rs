//! Reading selectors: which feed, which keys, from where to where.

use std::{collections::HashSet, sync::Arc};

use tonic::Status;

use super::{Context, request, status};
use crate::{
    hub::{Carried, End, Feed, Fidelity, KeyFilter, Resume, SlowPolicy, Start, Wanted},
    model::Cursor,
    proto::v1::{self, end::At, fidelity::View, start::From},
    store::Clock,
};

const MAX_KEYS: usize = 10_000;
const MAX_LAST_PER_KEY: u32 = 10_000;

/// The feed and what is wanted of it.
pub(super) fn parse(
    context: &Context,
    index: usize,
    selector: &v1::Selector,
) -> Result<(Arc<Feed>, Wanted), Status> {
    let path = |field: &str| format!("selectors[{index}].{field}");
    later_only(selector)?;
    let name = request::feed_name(&path("feed"), &selector.feed)?;
    if selector.keys.len() > MAX_KEYS || selector.exclude_keys.len() > MAX_KEYS {
        let text = "has more than 10,000 keys; follow the feed without a key filter";
        return Err(status::invalid_argument(&path("keys"), text));
    }
    let include: HashSet<String> = selector.keys.iter().cloned().collect();
    let filter = KeyFilter {
        include: (!include.is_empty()).then_some(include),
        exclude: selector.exclude_keys.iter().cloned().collect(),
        ..KeyFilter::default()
    };
    let start = start(&path("start"), selector.start.as_ref(), &selector.feed)?;
    let end = end(selector.end.as_ref());
    let feed = context.hub.feed(&name).map_err(|e| status::catalog(&e))?;
    let wanted = Wanted {
        selector: u32::try_from(index).unwrap_or(u32::MAX),
        filter,
        start,
        end,
        fidelity: Fidelity::Full,
        slow: SlowPolicy::default(),
        carried: Carried::default(),
    };
    Ok((feed, wanted))
}

/// What the API has and this version does not.
fn later_only(selector: &v1::Selector) -> Result<(), Status> {
    if !selector.feed_globs.is_empty() || !selector.key_globs.is_empty() {
        return Err(status::unimplemented("a selector by globs"));
    }
    match selector
        .fidelity
        .as_ref()
        .and_then(|fidelity| fidelity.view.as_ref())
    {
        None | Some(View::Full(_)) => {}
        Some(View::Conflate(_)) => return Err(status::unimplemented("fidelity CONFLATE")),
        Some(View::Bars(_)) => return Err(status::unimplemented("fidelity BARS")),
    }
    match selector.slow_policy.as_ref().map(v1::SlowPolicy::action) {
        None | Some(v1::SlowAction::Unspecified | v1::SlowAction::CatchUp) => Ok(()),
        Some(
            v1::SlowAction::Conflate | v1::SlowAction::JumpToTail | v1::SlowAction::Disconnect,
        ) => Err(status::unimplemented("a slow policy other than CATCH_UP")),
    }
}

fn start(field: &str, start: Option<&v1::Start>, feed: &str) -> Result<Start, Status> {
    let invalid = |message: &str| Err(status::invalid_argument(field, message));
    let Some(start) = start else {
        return Ok(Start::New);
    };
    match &start.from {
        None => invalid("is empty; set one of its cases"),
        Some(From::Offset(offset)) => Ok(Start::Offset(*offset)),
        Some(From::Cursor(cursor)) if cursor.feed.is_empty() || cursor.feed == feed => {
            Ok(Start::Cursor(Cursor {
                epoch: cursor.epoch,
                offset: cursor.offset,
            }))
        }
        Some(From::Cursor(cursor)) => invalid(&format!(
            "is a cursor of feed \"{}\"; use one of this feed",
            cursor.feed
        )),
        Some(From::Time(time)) => match v1::Clock::try_from(time.clock) {
            Ok(v1::Clock::Unspecified | v1::Clock::Event) => {
                Ok(Start::Time(Clock::Event, time.unix_nanos))
            }
            Ok(v1::Clock::Ingest) => Ok(Start::Time(Clock::Ingest, time.unix_nanos)),
            Err(_) => invalid("has a clock that is not a value of this enum"),
        },
        Some(From::Earliest(_)) => Ok(Start::Earliest),
        Some(From::New(_)) => Ok(Start::New),
        Some(From::LastPerKey(n)) if (1..=MAX_LAST_PER_KEY).contains(n) => {
            Ok(Start::LastPerKey(*n))
        }
        Some(From::LastPerKey(_)) => invalid("last_per_key is 1 to 10,000"),
        Some(From::Snapshot(_)) => Err(status::unimplemented("start SNAPSHOT")),
        Some(From::NamedCursor(_)) => Err(status::unimplemented("start by a named cursor")),
    }
}

fn end(end: Option<&v1::End>) -> End {
    match end.and_then(|end| end.at.as_ref()) {
        None => End::Never,
        Some(At::Offset(offset)) => End::Offset(*offset),
        Some(At::Now(_)) => End::Now,
        Some(At::IngestTimeUnixNanos(time)) => End::IngestTime(*time),
    }
}

/// The selector that goes on where a follower is.
pub(super) fn resume(selector: &v1::Selector, resume: &Resume) -> v1::Selector {
    let cursor = resume.cursor.unwrap_or_default();
    let cursor = v1::Cursor {
        feed: selector.feed.clone(),
        epoch: cursor.epoch,
        offset: cursor.offset,
    };
    let at = match resume.end {
        End::Never => None,
        End::Offset(offset) => Some(At::Offset(offset)),
        End::Now => Some(At::Now(v1::Now {})),
        End::IngestTime(time) => Some(At::IngestTimeUnixNanos(time)),
    };
    v1::Selector {
        start: Some(v1::Start {
            from: Some(From::Cursor(cursor)),
        }),
        end: at.map(|at| v1::End { at: Some(at) }),
        ..selector.clone()
    }
}
