//! `ringfeed subscribe`: prints what feeds hold and what comes in, and can go on where it stopped.

mod screen;

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::screen::{Flow, Heartbeats, Screen};
use super::{
    args::ConnectArgs,
    cursor_file::CursorFile,
    exit::{Outcome, Usage, note},
    latest::{colour_of_stdout, default_format},
    output::{Format, Printer},
    place::{FromPlace, Until},
    remote::{Remote, stop_signal},
};
use crate::{
    client::{FirstConnect, RetryOptions, SubscribeError, Subscription},
    model::Cursor,
    proto::v1::{self, end::At, start::From},
};

/// The cursor file is at most this much behind what was printed.
const SAVE_EVERY: Duration = Duration::from_millis(200);
const OUT_BYTES: usize = 64 << 10;

/// Print the records of feeds: those in the ring, then live ones
///
/// Records go to stdout; gaps and everything else to stderr. What is printed as jsonl or csv,
/// `ringfeed ingest` reads.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed subscribe sensors --from earliest --until now\n  ringfeed subscribe prices --key ACME --from last:10 --format csv\n  ringfeed subscribe sensors --cursor-file sensors.cursor >> sensors.jsonl"
)]
pub(super) struct SubscribeArgs {
    #[arg(required = true, value_name = "FEED")]
    feeds: Vec<String>,
    /// Key wanted; repeat it for several, leave it out for all
    #[arg(long)]
    key: Vec<String>,
    /// Key not wanted; repeat it for several
    #[arg(long, value_name = "KEY")]
    exclude_key: Vec<String>,
    /// earliest, new, an offset, last:N (per key), snapshot, or a time in RFC 3339; new by
    /// default, earliest with --until
    #[arg(long, value_name = "PLACE")]
    from: Option<FromPlace>,
    /// now, an offset, or a time of arrival in RFC 3339; never by default
    #[arg(long, value_name = "PLACE")]
    until: Option<Until>,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// table on a terminal, else jsonl
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Remembers what was printed; the next run goes on there
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Say on stderr every 10 s how far behind we are
    #[arg(long)]
    heartbeat: bool,
    /// Name to be listed under by `ringfeed subscribers`
    #[arg(long, value_name = "NAME", default_value = "ringfeed-cli")]
    name: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl SubscribeArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        self.check()?;
        let remote = Remote::new(&self.connect)?;
        let stop = stop_signal()?;
        let cursor_file = self.cursor_file.as_deref().map(CursorFile::open);
        let cursor_file = cursor_file.transpose()?;
        let format = self.format.unwrap_or_else(default_format);
        let request = self.request(cursor_file.as_ref(), format);
        let retry = RetryOptions {
            first: FirstConnect::Fail,
            give_up_after: None,
        };
        let subscription = Subscription::new(remote.connection(), request, retry)?;
        let out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
        let printer = Printer::new(format, colour_of_stdout(), out);
        let heartbeats = if self.heartbeat {
            Heartbeats::All
        } else {
            Heartbeats::Urgent
        };
        let mut follow = Follow {
            subscription,
            screen: Screen::new(printer, self.count, heartbeats, stop.clone()),
            cursor_file,
            save_due: None,
        };
        let followed = follow.run(&stop).await;
        // Also after an error: what was printed was printed.
        follow.save()?;
        match followed {
            Err(Failure::Status(status)) => Err(remote.explain(&status)),
            Err(Failure::Other(error)) => Err(error),
            Ok(()) => Ok(Outcome::Done),
        }
    }

    fn check(&self) -> Result<(), Usage> {
        let mut feeds = self.feeds.clone();
        feeds.sort_unstable();
        feeds.dedup();
        if feeds.len() < self.feeds.len() {
            return Err(Usage::new("a feed is named twice"));
        }
        let place = matches!(self.from, Some(FromPlace(From::Offset(_))))
            || matches!(self.until, Some(Until(At::Offset(_))));
        if place && feeds.len() > 1 {
            return Err(Usage::new(
                "an offset belongs to one feed: follow one, or name a time",
            ));
        }
        Ok(())
    }

    fn request(&self, cursor_file: Option<&CursorFile>, format: Format) -> v1::SubscribeRequest {
        let selector = |feed: &String| {
            let place = cursor_file.and_then(|file| file.place(feed));
            v1::Selector {
                feed: feed.clone(),
                keys: self.key.clone(),
                exclude_keys: self.exclude_key.clone(),
                start: Some(v1::Start {
                    from: Some(self.start(feed, place)),
                }),
                end: self.until.clone().map(|Until(at)| v1::End { at: Some(at) }),
                ..v1::Selector::default()
            }
        };
        v1::SubscribeRequest {
            selectors: self.feeds.iter().map(selector).collect(),
            include_info: format == Format::Table,
            subscriber: self.name.clone(),
            ..v1::SubscribeRequest::default()
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
            (None, None) => From::New(v1::New {}),
        }
    }
}

#[derive(Debug)]
enum Failure {
    Status(tonic::Status),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> std::convert::From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// A subscription on its way to the screen and the cursor file.
struct Follow<W: Write> {
    subscription: Subscription,
    screen: Screen<W>,
    cursor_file: Option<CursorFile>,
    save_due: Option<Instant>,
}

impl<W: Write> Follow<W> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        loop {
            let due = self.save_due;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.save()?,
                event = self.subscription.next() => match event {
                    Ok(None) => return Ok(()),
                    Ok(Some(event)) => {
                        let flow = self.screen.show(event)?;
                        self.save_due.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
                        if flow == Flow::Stop {
                            return Ok(());
                        }
                    }
                    Err(SubscribeError::Status(status)) => return Err(Failure::Status(status)),
                    Err(error) => return Err(anyhow!(error).into()),
                },
            }
        }
    }

    /// Puts what was printed and flushed into the cursor file.
    fn save(&mut self) -> anyhow::Result<()> {
        self.save_due = None;
        let places: &BTreeMap<_, _> = self.screen.flushed();
        match &mut self.cursor_file {
            Some(file) if !places.is_empty() => file.save(places),
            _ => Ok(()),
        }
    }
}
