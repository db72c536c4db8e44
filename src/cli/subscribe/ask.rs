//! What `ringfeed subscribe` is told on the command line, as a request.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use crate::{
    cli::{
        args::{ConnectArgs, duration},
        cursor_file::CursorFile,
        exit::Usage,
        output::Format,
    },
    model::Cursor,
    proto::{
        convert::wire_duration,
        place::{FromPlace, Until, globs_and_names, is_glob},
        v1::{self, end::At, fidelity::View, start::From},
    },
};

const EXAMPLES: &str = "Examples:
  ringfeed subscribe sensors --from earliest --until now
  ringfeed subscribe prices --key ACME --from last:10 --format csv
  ringfeed subscribe 'stocks.*' --key 'A*' --not-key 'A?'
  ringfeed subscribe prices --conflate 250ms
  ringfeed subscribe prices --bars 1m --open
  ringfeed subscribe prices --slow jump --max-lag 10000
  ringfeed subscribe sensors --from cursor --name archive >> sensors.jsonl
  ringfeed subscribe sensors --cursor-file sensors.cursor >> sensors.jsonl";

/// Print the records of feeds: the latest of each key, then live ones
///
/// Records go to stdout; gaps and everything else to stderr. What is printed as jsonl or csv,
/// `ringfeed ingest` reads, bars of readings aside. A FEED or key with one of `*?[{` is a glob; feeds
/// created later join.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SubscribeArgs {
    #[arg(required = true, value_name = "FEED")]
    pub(super) feeds: Vec<String>,
    /// Key or glob wanted; repeat it for several, leave it out for all
    #[arg(long)]
    pub(super) key: Vec<String>,
    /// Key or glob not wanted; repeat it for several
    #[arg(long, alias = "exclude-key", value_name = "KEY")]
    pub(super) not_key: Vec<String>,
    /// snapshot (the latest of each key, then live), earliest, new, an offset, last:N (per key),
    /// cursor (what --name printed before), or a time in RFC 3339; snapshot by default, earliest
    /// with --until, new with --bars
    #[arg(long, value_name = "PLACE")]
    pub(super) from: Option<FromPlace>,
    /// now, an offset, or a time of arrival in RFC 3339; never by default
    #[arg(long, value_name = "PLACE")]
    pub(super) until: Option<Until>,
    /// End after this many records or bars
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// At most one record per key in this time: the latest
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "bars")]
    pub(super) conflate: Option<Duration>,
    /// Bars of this length: open, high, low, close of prices; min, max, mean, last of readings,
    /// which ingest does not read
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) bars: Option<Duration>,
    /// Bars in progress as well
    #[arg(long, requires = "bars")]
    pub(super) open: bool,
    /// When we are further behind than --max-lag: conflate until we keep up, jump to the newest
    /// record, or disconnect
    #[arg(long, value_enum, requires = "max_lag")]
    pub(super) slow: Option<Slow>,
    /// How far behind is too far: records (10000) or a time (5s)
    #[arg(long, value_name = "LAG", requires = "slow")]
    pub(super) max_lag: Option<MaxLag>,
    /// table on a terminal, else jsonl
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Remembers what was printed in a file; the next run goes on there
    #[arg(long, value_name = "FILE")]
    pub(super) cursor_file: Option<PathBuf>,
    /// Say on stderr every 10 s how far behind we are
    #[arg(long)]
    pub(super) heartbeat: bool,
    /// Name to be listed under by `ringfeed subscribers`; with --from cursor the server remembers
    /// under it what was printed
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// What becomes of us when we are too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Slow {
    Conflate,
    Jump,
    Disconnect,
}

/// How far behind is too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MaxLag {
    Records(u64),
    Time(Duration),
}

impl FromStr for MaxLag {
    type Err = Usage;

    /// Reads `10000` or `5s`.
    fn from_str(text: &str) -> Result<Self, Usage> {
        let lag = match text.parse() {
            Ok(records) => Self::Records(records),
            Err(_) => Self::Time(duration(text)?),
        };
        if matches!(lag, Self::Records(0) | Self::Time(Duration::ZERO)) {
            return Err(Usage::new(
                "a lag of 0 is always exceeded: write for instance 10000 or 5s",
            ));
        }
        Ok(lag)
    }
}

impl SubscribeArgs {
    pub(super) fn check(&self) -> Result<(), Usage> {
        let mut feeds = self.feeds.clone();
        feeds.sort_unstable();
        feeds.dedup();
        if feeds.len() < self.feeds.len() {
            return Err(Usage::new("a feed is named twice"));
        }
        let globs = self.feeds.iter().any(|feed| is_glob(feed));
        let place = matches!(self.from, Some(FromPlace(From::Offset(_))))
            || matches!(self.until, Some(Until(At::Offset(_))));
        if place && (globs || feeds.len() > 1) {
            return Err(Usage::new(
                "an offset belongs to one feed: follow one, or name a time",
            ));
        }
        if self.cursor_file.is_some() && globs {
            return Err(Usage::new(
                "a cursor file knows feeds by name: name them, or use --from cursor --name NAME",
            ));
        }
        match (self.is_named_cursor(), &self.name, &self.cursor_file) {
            (true, None, _) => Err(Usage::new("--from cursor needs --name: whose cursor?")),
            (true, _, Some(_)) => Err(Usage::new(
                "--from cursor and --cursor-file both remember what was printed: use one",
            )),
            _ => Ok(()),
        }
    }

    /// The server remembers what was printed.
    pub(super) fn is_named_cursor(&self) -> bool {
        matches!(self.from, Some(FromPlace(From::NamedCursor(_))))
    }

    pub(super) fn subscriber(&self) -> String {
        self.name.clone().unwrap_or_else(|| "ringfeed-cli".into())
    }

    pub(super) fn request(
        &self,
        cursor_file: Option<&CursorFile>,
        format: Format,
    ) -> v1::SubscribeRequest {
        let (globs, names) = globs_and_names(&self.feeds);
        let one = |feed: &String| {
            let place = cursor_file.and_then(|file| file.place(feed));
            v1::Selector {
                feed: feed.clone(),
                ..self.selector(feed, place)
            }
        };
        let mut selectors: Vec<_> = names.iter().map(one).collect();
        if !globs.is_empty() {
            selectors.push(v1::Selector {
                feed_globs: globs,
                // Else their records would come twice; a name is a glob that matches itself.
                exclude_feed_globs: names,
                ..self.selector("", None)
            });
        }
        v1::SubscribeRequest {
            selectors,
            include_info: format == Format::Table,
            subscriber: self.subscriber(),
            ..v1::SubscribeRequest::default()
        }
    }

    fn selector(&self, feed: &str, place: Option<Cursor>) -> v1::Selector {
        let (key_globs, keys) = globs_and_names(&self.key);
        let (exclude_key_globs, exclude_keys) = globs_and_names(&self.not_key);
        v1::Selector {
            keys,
            key_globs,
            exclude_keys,
            exclude_key_globs,
            start: Some(v1::Start {
                from: Some(self.start(feed, place)),
            }),
            end: self.until.clone().map(|Until(at)| v1::End { at: Some(at) }),
            fidelity: self.fidelity(),
            slow_policy: self.slow_policy(),
            ..v1::Selector::default()
        }
    }

    fn start(&self, feed: &str, place: Option<Cursor>) -> From {
        if let Some(place) = place {
            return From::Cursor(v1::Cursor {
                feed: feed.to_owned(),
                epoch: place.epoch,
                offset: place.offset,
            });
        }
        match (&self.from, &self.until) {
            (Some(FromPlace(from)), _) => from.clone(),
            (None, Some(_)) => From::Earliest(v1::Earliest {}),
            // A bar that began earlier is computed of the ring; the latest records are no bars.
            (None, None) if self.bars.is_some() => From::New(v1::New {}),
            (None, None) => From::Snapshot(v1::SnapshotStart {}),
        }
    }

    fn fidelity(&self) -> Option<v1::Fidelity> {
        let conflate = self.conflate.map(|interval| {
            View::Conflate(v1::Conflate {
                interval: Some(wire_duration(interval)),
            })
        });
        let bars = self.bars.map(|interval| {
            View::Bars(v1::Bars {
                interval: Some(wire_duration(interval)),
                include_open: self.open,
            })
        });
        let view = conflate.or(bars)?;
        Some(v1::Fidelity { view: Some(view) })
    }

    fn slow_policy(&self) -> Option<v1::SlowPolicy> {
        let action = match self.slow? {
            Slow::Conflate => v1::SlowAction::Conflate,
            Slow::Jump => v1::SlowAction::JumpToTail,
            Slow::Disconnect => v1::SlowAction::Disconnect,
        };
        let (max_lag_records, max_lag) = match self.max_lag? {
            MaxLag::Records(records) => (records, None),
            MaxLag::Time(time) => (0, Some(wire_duration(time))),
        };
        Some(v1::SlowPolicy {
            max_lag_records,
            max_lag,
            action: action.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: SubscribeArgs,
    }

    fn args(line: &str) -> SubscribeArgs {
        let words = std::iter::once("subscribe").chain(line.split(' '));
        let line = Line::try_parse_from(words);
        line.unwrap_or_else(|error| panic!("{error}")).args
    }

    fn selectors(line: &str) -> Vec<v1::Selector> {
        let args = args(line);
        args.check().unwrap();
        args.request(None, Format::Jsonl).selectors
    }

    #[test]
    fn names_and_globs_are_told_apart() {
        let selectors =
            selectors("plant stocks.* fx --key A --key B? --not-key {BA,BB} --not-key C");
        let feeds: Vec<_> = selectors.iter().map(|s| s.feed.as_str()).collect();
        assert_eq!(feeds, ["plant", "fx", ""]);
        assert_eq!(selectors[2].feed_globs, ["stocks.*"]);
        assert_eq!(selectors[2].exclude_feed_globs, ["plant", "fx"]);
        for selector in selectors {
            assert_eq!(
                (selector.keys, selector.key_globs),
                (vec!["A".into()], vec!["B?".into()])
            );
            assert_eq!(selector.exclude_keys, ["C"]);
            assert_eq!(selector.exclude_key_globs, ["{BA,BB}"]);
        }
    }

    #[test]
    fn the_start_depends_on_what_is_asked_for() {
        let start = |line| selectors(line)[0].start.clone().unwrap().from.unwrap();
        assert_eq!(start("f"), From::Snapshot(v1::SnapshotStart {}));
        assert_eq!(start("f --until now"), From::Earliest(v1::Earliest {}));
        assert_eq!(start("f --bars 1m"), From::New(v1::New {}));
        assert_eq!(start("f --from new"), From::New(v1::New {}));
        let named = From::NamedCursor(v1::NamedCursor {});
        assert_eq!(start("f --from cursor --name me"), named);
    }

    #[test]
    fn views_and_slow_policies_become_what_the_wire_says() {
        let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        let selector = selectors("f --conflate 250ms --slow jump --max-lag 10000").remove(0);
        let conflate = v1::Conflate {
            interval: duration(0, 250_000_000),
        };
        let view = selector.fidelity.and_then(|fidelity| fidelity.view);
        assert_eq!(view, Some(View::Conflate(conflate)));
        let slow = selector.slow_policy.unwrap();
        assert_eq!(slow.action(), v1::SlowAction::JumpToTail);
        assert_eq!((slow.max_lag_records, slow.max_lag), (10_000, None));

        let selector = selectors("f --bars 1m --open --slow conflate --max-lag 5s").remove(0);
        let bars = v1::Bars {
            interval: duration(60, 0),
            include_open: true,
        };
        let view = selector.fidelity.and_then(|fidelity| fidelity.view);
        assert_eq!(view, Some(View::Bars(bars)));
        let slow = selector.slow_policy.unwrap();
        assert_eq!((slow.max_lag_records, slow.max_lag), (0, duration(5, 0)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "f f",
            "f* --from 812",
            "f g --until 7",
            "f* --cursor-file x",
            "f --from cursor",
            "f --from cursor --name me --cursor-file x",
        ] {
            assert!(args(line).check().is_err(), "{line}");
        }
        for line in [
            "f --open",
            "f --slow jump",
            "f --max-lag 5s",
            "f --slow jump --max-lag 0",
            "f --conflate 1s --bars 1m",
        ] {
            let words = std::iter::once("subscribe").chain(line.split(' '));
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
