//! What `ringfeed watch` is told on the command line, as a request.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::{
        args::{ConnectArgs, duration},
        exit::Usage,
    },
    proto::{
        convert::wire_duration,
        place::{globs_and_names, is_glob},
        v1::{self, fidelity::View, start::From},
    },
};

/// Lag and ring are as old as the last heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "Keys: arrows, PgUp, PgDn, Home, End scroll · s sorts by the next column · r reverses · / filters \
· p pauses · ? shows all of them · q quits

Examples:
  ringfeed watch sensors
  ringfeed watch prices --key 'A*' --not-key 'AA?' --conflate 1s";

/// Watch a feed on a terminal: the last value of each key, its change and trend, as they come in
///
/// One row for each key, and payload kind where a key has several, with quality and age, and stale
/// ones marked; above them the connection, rates, lag and gaps. It goes on by itself after a cut.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct WatchArgs {
    #[arg(value_name = "FEED")]
    pub(super) feed: String,
    /// Key or glob wanted; repeat it for several, leave it out for all
    #[arg(long)]
    key: Vec<String>,
    /// Key or glob not wanted; repeat it for several
    #[arg(long, alias = "exclude-key", value_name = "KEY")]
    not_key: Vec<String>,
    /// At most one record per key in this time: the latest
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "250ms")]
    conflate: Duration,
    /// Name to be listed under by `ringfeed subscribers`
    #[arg(long, value_name = "NAME", default_value = "ringfeed-watch")]
    name: String,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

impl WatchArgs {
    pub(super) fn check(&self) -> Result<(), Usage> {
        if is_glob(&self.feed) {
            return Err(Usage::new(
                "watch shows one feed: name it, or follow several with `ringfeed subscribe`",
            ));
        }
        if !console::user_attended() {
            return Err(Usage::new(
                "watch needs a terminal: in a pipe use `ringfeed subscribe`",
            ));
        }
        if self.connect.telemetry.writes_to_terminal() {
            return Err(Usage::new(
                "--verbose would write over the screen: send it elsewhere with 2> FILE",
            ));
        }
        Ok(())
    }

    /// The latest of each key, then what comes, conflated.
    pub(super) fn request(&self) -> v1::SubscribeRequest {
        let conflate = v1::Conflate {
            interval: Some(wire_duration(self.conflate)),
        };
        let selector = v1::Selector {
            fidelity: Some(v1::Fidelity {
                view: Some(View::Conflate(conflate)),
            }),
            ..self.selector(From::Snapshot(v1::SnapshotStart {}))
        };
        v1::SubscribeRequest {
            selectors: vec![selector],
            include_info: true,
            heartbeat_interval: Some(wire_duration(HEARTBEAT)),
            subscriber: self.name.clone(),
            ..v1::SubscribeRequest::default()
        }
    }

    /// So many records of each key that are in the ring now.
    pub(super) fn older(&self, per_key: u32) -> v1::SubscribeRequest {
        let selector = v1::Selector {
            end: Some(v1::End {
                at: Some(v1::end::At::Now(v1::Now {})),
            }),
            ..self.selector(From::LastPerKey(per_key))
        };
        v1::SubscribeRequest {
            selectors: vec![selector],
            subscriber: self.name.clone(),
            ..v1::SubscribeRequest::default()
        }
    }

    fn selector(&self, from: From) -> v1::Selector {
        let (key_globs, keys) = globs_and_names(&self.key);
        let (exclude_key_globs, exclude_keys) = globs_and_names(&self.not_key);
        v1::Selector {
            feed: self.feed.clone(),
            keys,
            key_globs,
            exclude_keys,
            exclude_key_globs,
            start: Some(v1::Start { from: Some(from) }),
            ..v1::Selector::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: WatchArgs,
    }

    fn args(line: &str) -> WatchArgs {
        let words = std::iter::once("watch").chain(line.split(' '));
        let line = Line::try_parse_from(words);
        line.unwrap_or_else(|error| panic!("{error}")).args
    }

    #[test]
    fn it_asks_for_a_snapshot_and_what_a_screen_can_show() {
        let request = args("f --key A --key B* --not-key BA --not-key B?").request();
        let [selector] = request.selectors.as_slice() else {
            panic!("one selector");
        };
        let from = selector.start.clone().unwrap().from;
        assert_eq!(from, Some(From::Snapshot(v1::SnapshotStart {})));
        let interval = Some(wire_duration(Duration::from_millis(250)));
        let conflate = View::Conflate(v1::Conflate { interval });
        assert_eq!(selector.fidelity.unwrap().view, Some(conflate));
        assert_eq!(
            (selector.keys.as_slice(), selector.key_globs.as_slice()),
            (&["A".to_owned()][..], &["B*".to_owned()][..])
        );
        assert_eq!(selector.exclude_keys, ["BA"]);
        assert_eq!(selector.exclude_key_globs, ["B?"]);
        assert!(request.include_info);
    }

    #[test]
    fn one_feed_is_watched() {
        let refused = args("f*").check().unwrap_err().to_string();
        assert!(refused.contains("one feed"), "{refused}");
    }
}
