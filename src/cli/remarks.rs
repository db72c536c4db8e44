//! What happens to a stream, in words: for the commands that follow one.

use super::plain;
use crate::{
    client::GapEntry,
    model::{Cursor, GapReason, Span},
    proto::{convert::std_duration, v1},
};

/// What a selector gets from a place on.
pub(super) fn mode_text(change: &v1::ModeChanged) -> String {
    use v1::fidelity::View;
    let at = change.at.clone().unwrap_or_default();
    let view = change.fidelity.and_then(|fidelity| fidelity.view);
    let interval = |wire: Option<prost_types::Duration>| {
        let interval = wire.as_ref().and_then(std_duration);
        interval.map_or_else(|| "a while".to_owned(), plain::duration)
    };
    let what = match view {
        None | Some(View::Full(_)) => "every record again".to_owned(),
        Some(View::Conflate(conflate)) => format!(
            "at most one record per key in {}, to keep up",
            interval(conflate.interval)
        ),
        Some(View::Bars(bars)) => format!("bars of {}", interval(bars.interval)),
    };
    format!("{}: from offset {} on {what}", at.feed, at.offset)
}

/// What the caller may not see.
pub(super) fn narrowed_text(narrowed: &v1::Narrowed) -> String {
    if narrowed.feed.is_empty() {
        let feeds = narrowed.feed_globs.join(", ");
        return format!("you may follow only these feeds: {feeds}; others are left out");
    }
    let keys = narrowed.key_globs.join(", ");
    format!(
        "{}: you may see only these keys: {keys}; others are left out",
        narrowed.feed
    )
}

/// Where it goes on after a gap.
pub(super) fn behind(gap: &GapEntry) -> Cursor {
    match (gap.reason, gap.oldest) {
        (GapReason::EpochChanged, Some(oldest)) => oldest,
        _ => Cursor {
            epoch: gap.epoch,
            offset: gap.span.to,
        },
    }
}

/// Which records will not come, and why.
pub(super) fn gap_text(feed: &str, gap: &GapEntry) -> String {
    let Span { from, to } = gap.span;
    let count = match gap.count {
        None => String::new(),
        Some(1) => " (1 record)".to_owned(),
        Some(count) => format!(" ({} records)", plain::count(count)),
    };
    let next = behind(gap).offset;
    let what = match gap.reason {
        GapReason::Evicted => "were evicted before they could be read",
        GapReason::Trimmed => "were trimmed",
        GapReason::Jumped => "were left out to catch up",
        GapReason::Lost => "were lost in an unclean stop of the server",
        GapReason::Corrupt => "are damaged on the server's disk",
        GapReason::EpochChanged => {
            return format!(
                "gap in {feed}: the feed was created anew or restored since offset {from}; going on at {next}"
            );
        }
    };
    format!("gap in {feed}: offsets {from}..{to}{count} {what}; going on at {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_what_happened_in_one_line() {
        let gap = GapEntry {
            epoch: 1,
            span: Span::new(10, 1_500),
            count: Some(1_490),
            reason: GapReason::Evicted,
            oldest: None,
        };
        assert_eq!(
            gap_text("f", &gap),
            "gap in f: offsets 10..1500 (1,490 records) were evicted before they could be read; going on at 1500"
        );
    }

    #[test]
    fn a_changed_mode_says_what_comes_now() {
        let text = |view| {
            mode_text(&v1::ModeChanged {
                fidelity: Some(v1::Fidelity { view }),
                at: Some(v1::Cursor {
                    feed: "f".to_owned(),
                    epoch: 1,
                    offset: 7,
                }),
            })
        };
        let interval = Some(prost_types::Duration {
            seconds: 0,
            nanos: 250_000_000,
        });
        let conflate = v1::fidelity::View::Conflate(v1::Conflate { interval });
        assert_eq!(
            text(Some(conflate)),
            "f: from offset 7 on at most one record per key in 250 ms, to keep up"
        );
        let full = v1::fidelity::View::Full(v1::Full {});
        assert_eq!(text(Some(full)), "f: from offset 7 on every record again");
    }
}
