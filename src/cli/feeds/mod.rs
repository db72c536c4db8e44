//! `ringfeed feeds`: create, look at, change and delete feeds, with how long a ring lasts.

mod retain;

use std::{
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};

use self::retain::{RetainArgs, lasts};
use super::{
    args::{ConnectArgs, bytes, duration},
    exit::{Outcome, Usage},
    output::{Paper, escaped},
    plain::{self, Align, Columns},
    remote::Remote,
};
use crate::{
    model::now,
    proto::{
        convert::{std_duration, time_text, timestamp_nanos, wire_duration},
        v1,
    },
};

/// List, create, look at, change, trim or delete feeds
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed feeds list\n  ringfeed feeds create sensors --max-bytes 1GiB\n  ringfeed feeds update sensors --retain 7d\n  ringfeed feeds trim sensors --before 12000"
)]
pub(super) struct FeedsArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All feeds: what they hold, how fast they grow, how long their rings last
    List,
    /// Create a feed
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Everything about one feed
    Get { name: String },
    /// Change retention or visibility; what is not named stays
    Update {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Drop the records before an offset
    Trim {
        name: String,
        /// Oldest offset to keep
        #[arg(long, value_name = "OFFSET")]
        before: u64,
    },
    /// Delete a feed with its records, producers' marks and descriptions
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
struct Settings {
    /// Size of the ring on disk, for instance 256MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes, conflicts_with = "retain")]
    max_bytes: Option<u64>,
    #[command(flatten)]
    retain: RetainArgs,
    /// Greatest age of a record; 0s: none
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// When records become visible: after their flush, or at once
    #[arg(long, value_enum)]
    visibility: Option<Visible>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Visible {
    Durable,
    Immediate,
}

impl Settings {
    fn visibility(&self) -> v1::Visibility {
        match self.visibility {
            None => v1::Visibility::Unspecified,
            Some(Visible::Durable) => v1::Visibility::Durable,
            Some(Visible::Immediate) => v1::Visibility::Immediate,
        }
    }
}

impl FeedsArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        match self.action {
            Action::List => list(&remote).await?,
            Action::Create { name, settings } => create(&remote, name, settings).await?,
            Action::Get { name } => show(&get(&remote, &name).await?)?,
            Action::Update { name, settings } => update(&remote, name, settings).await?,
            Action::Trim { name, before } => trim(&remote, name, before).await?,
            Action::Delete { name, yes } => {
                if !yes {
                    confirm(&remote, &name).await?;
                }
                delete(&remote, name).await?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn list(remote: &Remote) -> anyhow::Result<()> {
    let mut table = Columns::new(&[
        ("FEED", Align::Left),
        ("OLDEST", Align::Right),
        ("NEXT", Align::Right),
        ("HELD", Align::Right),
        ("RING", Align::Right),
        ("RATE", Align::Right),
        ("LASTS", Align::Right),
        ("LAST", Align::Right),
    ]);
    let mut request = v1::ListFeedsRequest::default();
    loop {
        let page = remote
            .catalog(|mut catalog| {
                let request = request.clone();
                async move { catalog.list_feeds(request).await }
            })
            .await?;
        page.feeds.iter().for_each(|feed| table.row(row(feed)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    table.write(&mut io::stdout().lock(), Paper::of_stdout().cut)?;
    Ok(())
}

fn row(feed: &v1::Feed) -> [String; 8] {
    let last = feed.last_append_time.as_ref().and_then(timestamp_nanos);
    [
        feed.name.clone(),
        feed.oldest.to_string(),
        feed.next.to_string(),
        plain::bytes(feed.bytes),
        plain::bytes(feed.retention.unwrap_or_default().max_bytes),
        plain::rate(feed.records_per_second),
        lasts(feed).unwrap_or_else(|| "-".to_owned()),
        plain::ago(last, now()),
    ]
}

async fn get(remote: &Remote, name: &str) -> anyhow::Result<v1::Feed> {
    let answer = remote
        .catalog(|mut catalog| {
            let name = name.to_owned();
            async move { catalog.get_feed(v1::GetFeedRequest { name }).await }
        })
        .await?;
    Ok(answer.feed.unwrap_or_default())
}

async fn create(remote: &Remote, name: String, settings: Settings) -> anyhow::Result<()> {
    let max_bytes = match settings.max_bytes {
        Some(bytes) => bytes,
        None => settings.retain.bytes(None)?.unwrap_or(0),
    };
    let max_age = settings.max_age.filter(|age| !age.is_zero());
    let retention = v1::Retention {
        max_bytes,
        max_age: max_age.map(wire_duration),
    };
    let request = v1::CreateFeedRequest {
        name,
        // Absent: the server's default size.
        retention: (retention != v1::Retention::default()).then_some(retention),
        visibility: settings.visibility().into(),
    };
    let answer = remote
        .catalog(|mut catalog| {
            let request = request.clone();
            async move { catalog.create_feed(request).await }
        })
        .await?;
    show(&answer.feed.unwrap_or_default())
}

async fn update(remote: &Remote, name: String, settings: Settings) -> anyhow::Result<()> {
    let max_bytes = match settings.max_bytes {
        None if settings.retain.is_asked() => {
            let feed = get(remote, &name).await?;
            settings.retain.bytes(Some(&feed))?
        }
        max_bytes => max_bytes,
    };
    let request = v1::UpdateFeedRequest {
        name,
        max_bytes,
        max_age: settings.max_age.map(wire_duration),
        visibility: settings.visibility().into(),
    };
    let unchanged = v1::UpdateFeedRequest {
        name: request.name.clone(),
        ..v1::UpdateFeedRequest::default()
    };
    if request == unchanged {
        bail!(Usage::new(
            "say what to change, for instance --max-bytes 1GiB or --retain 7d"
        ));
    }
    let answer = remote
        .catalog(|mut catalog| {
            let request = request.clone();
            async move { catalog.update_feed(request).await }
        })
        .await?;
    show(&answer.feed.unwrap_or_default())
}

async fn trim(remote: &Remote, name: String, before_offset: u64) -> anyhow::Result<()> {
    let answer = remote
        .catalog(|mut catalog| {
            let name = name.clone();
            let request = v1::TrimFeedRequest {
                name,
                before_offset,
            };
            async move { catalog.trim_feed(request).await }
        })
        .await?;
    let feed = answer.feed.unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: offsets {}..{} are kept",
        escaped(&feed.name),
        feed.oldest,
        feed.next
    )?;
    Ok(())
}

async fn delete(remote: &Remote, name: String) -> anyhow::Result<()> {
    remote
        .catalog(|mut catalog| {
            let name = name.clone();
            async move { catalog.delete_feed(v1::DeleteFeedRequest { name }).await }
        })
        .await?;
    writeln!(io::stdout().lock(), "{name} is deleted")?;
    Ok(())
}

/// Asks on a terminal; without one, refuses.
async fn confirm(remote: &Remote, name: &str) -> anyhow::Result<()> {
    if !console::Term::stderr().is_term() || !io::IsTerminal::is_terminal(&io::stdin()) {
        bail!(Usage::new(
            "deleting a feed cannot be taken back: pass --yes to say that it is meant"
        ));
    }
    let feed = get(remote, name).await?;
    let records = feed.next.saturating_sub(feed.oldest);
    eprint!(
        "{name} holds up to {} records. Type its name to delete it: ",
        plain::count(records)
    );
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != name {
        bail!("nothing is deleted");
    }
    Ok(())
}

fn show(feed: &v1::Feed) -> anyhow::Result<()> {
    let retention = feed.retention.unwrap_or_default();
    let max_age = retention.max_age.as_ref().and_then(std_duration);
    let time = |wire: Option<&prost_types::Timestamp>| wire.and_then(timestamp_nanos);
    let visibility = match feed.visibility() {
        v1::Visibility::Unspecified | v1::Visibility::Durable => "durable",
        v1::Visibility::Immediate => "immediate",
    };
    let lasts = lasts(feed).map_or_else(
        || "nothing comes in: unknown".to_owned(),
        |lasts| format!("{lasts} at the present rate"),
    );
    let lines = [
        ("feed", feed.name.clone()),
        ("epoch", feed.epoch.to_string()),
        ("offsets", format!("{}..{}", feed.oldest, feed.next)),
        (
            "ring",
            format!(
                "{} of {}",
                plain::bytes(feed.bytes),
                plain::bytes(retention.max_bytes)
            ),
        ),
        (
            "greatest age",
            max_age.map_or_else(|| "none".to_owned(), plain::duration),
        ),
        ("lasts", lasts),
        (
            "rate",
            format!(
                "{} in records, {}/s in bytes",
                plain::rate(feed.records_per_second),
                plain::bytes(retain::whole(feed.bytes_per_second))
            ),
        ),
        ("visibility", visibility.to_owned()),
        ("keys", plain::count(feed.keys)),
        ("producers", plain::count(feed.producers)),
        ("subscribers", plain::count(feed.subscribers)),
        (
            "created",
            time(feed.create_time.as_ref()).map_or_else(|| "-".to_owned(), time_text),
        ),
        (
            "last record",
            plain::ago(time(feed.last_append_time.as_ref()), now()),
        ),
    ];
    let mut out = io::stdout().lock();
    for (name, value) in lines {
        // What a server says reaches the terminal here.
        writeln!(out, "{name:<13} {}", escaped(&value))?;
    }
    Ok(())
}
