//! `ringfeed subscribers`: who follows, and how far each one is behind.

use std::io::{self, Write as _};

use clap::Args;

use super::{
    args::ConnectArgs,
    exit::{Outcome, Usage},
    output::Paper,
    plain::{self, Align, Columns, Cut},
    remote::Remote,
};
use crate::proto::{convert::std_duration, v1};

const AFTER_HELP: &str = "STATE is open (LAG and TIME are of what was sent), acks (of what it \
acknowledged) or away (a named cursor without a stream). EVICTION says when retention reaches it.

Examples:
  ringfeed subscribers sensors
  ringfeed subscribers --forget archive --feed sensors";

/// List subscriptions and named cursors: where each stands, how far it is behind, and when eviction
/// reaches it
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SubscribersArgs {
    /// All feeds when left out
    #[arg(value_name = "FEED", conflicts_with = "in_feed")]
    feed: Option<String>,
    /// Forget the named cursor of this subscriber in --feed
    #[arg(long, value_name = "NAME", requires = "in_feed")]
    forget: Option<String>,
    /// The feed, as the argument says it too
    #[arg(id = "in_feed", long = "feed", value_name = "FEED")]
    in_feed: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl SubscribersArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        let feed = self.feed.or(self.in_feed);
        match (self.forget, feed) {
            (None, feed) => list(&remote, feed.unwrap_or_default()).await?,
            (Some(name), Some(feed)) => forget(&remote, name, feed).await?,
            (Some(_), None) => return Err(Usage::new("--forget needs --feed").into()),
        }
        Ok(Outcome::Done)
    }
}

async fn forget(remote: &Remote, subscriber: String, feed: String) -> anyhow::Result<()> {
    let request = v1::DeleteCursorRequest { feed, subscriber };
    remote
        .catalog(|mut catalog| {
            let request = request.clone();
            async move { catalog.delete_cursor(request).await }
        })
        .await?;
    let v1::DeleteCursorRequest { feed, subscriber } = request;
    writeln!(io::stdout().lock(), "{subscriber} is forgotten in {feed}")?;
    Ok(())
}

async fn list(remote: &Remote, feed: String) -> anyhow::Result<()> {
    let mut request = v1::ListSubscribersRequest {
        feed,
        ..v1::ListSubscribersRequest::default()
    };
    let mut subscribers = Vec::new();
    loop {
        let page = remote
            .catalog(|mut catalog| {
                let request = request.clone();
                async move { catalog.list_subscribers(request).await }
            })
            .await?;
        subscribers.extend(page.subscribers);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let cut = Paper::of_stdout().cut;
    table(subscribers, cut).write(&mut io::stdout().lock(), cut)?;
    Ok(())
}

/// On a terminal there is no room for what all of them share: whom they belong to.
fn table(subscribers: Vec<v1::Subscriber>, cut: Cut) -> Columns {
    let mut principals = subscribers.iter().map(|subscriber| &subscriber.principal);
    let first = principals.next();
    let same = principals.all(|principal| Some(principal) == first);
    let hides = cut != Cut::Never && same;
    let heads = [
        ("NAME", Align::Left),
        ("PRINCIPAL", Align::Left),
        ("FEED", Align::Left),
        ("CURSOR", Align::Right),
        ("LAG", Align::Right),
        ("TIME", Align::Right),
        ("EVICTION", Align::Right),
        ("FIDELITY", Align::Left),
        ("STATE", Align::Left),
    ];
    let shown = |column: usize| !(hides && column == 1);
    let kept = (0..).zip(heads).filter(|(column, _)| shown(*column));
    let heads: Vec<_> = kept.map(|(_, head)| head).collect();
    let yielding: &[usize] = if hides { &[0, 1] } else { &[0, 1, 2] };
    let mut table = Columns::new(&heads).yielding(yielding);
    for subscriber in subscribers {
        let cells = (0..).zip(row(subscriber));
        let kept = cells.filter(|(column, _)| shown(*column));
        table.row(kept.map(|(_, cell)| cell));
    }
    table
}

fn row(subscriber: v1::Subscriber) -> [String; 9] {
    let time = |wire: Option<prost_types::Duration>| {
        wire.as_ref()
            .and_then(std_duration)
            .map_or_else(|| "-".to_owned(), plain::duration)
    };
    let state = match (subscriber.connected, subscriber.acknowledged) {
        (false, _) => "away",
        (true, true) => "acks",
        (true, false) => "open",
    };
    let or = |text: String, none: &str| match text.as_str() {
        "" => none.to_owned(),
        _ => text,
    };
    [
        or(subscriber.name, "(unnamed)"),
        or(subscriber.principal, "-"),
        subscriber.feed,
        subscriber.cursor.to_string(),
        plain::count(subscriber.lag_records),
        time(subscriber.lag),
        time(subscriber.eviction_eta),
        or(subscriber.fidelity, "-"),
        state.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(name: &str, principal: &str) -> v1::Subscriber {
        let duration = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        v1::Subscriber {
            name: name.to_owned(),
            principal: principal.to_owned(),
            feed: "stocks.nasdaq.quotes".to_owned(),
            cursor: 123_456_789,
            lag_records: 12_345,
            lag: duration(7_800),
            eviction_eta: duration(200_000),
            fidelity: "conflate".to_owned(),
            connected: principal.is_empty(),
            ..v1::Subscriber::default()
        }
    }

    fn text(subscribers: Vec<v1::Subscriber>, cut: Cut) -> String {
        let mut out = Vec::new();
        table(subscribers, cut).write(&mut out, cut).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_list_fits_a_terminal() {
        let rows = vec![subscriber("archive", ""), subscriber("", "")];
        let expected = "\
NAME       FEED              CURSOR     LAG      TIME  EVICTION  FIDELITY  STATE
archive    stocks.nasda…  123456789  12,345  2 h 10 m   2 d 7 h  conflate  open
(unnamed)  stocks.nasda…  123456789  12,345  2 h 10 m   2 d 7 h  conflate  open
";
        let text = text(rows, Cut::To(80));
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn in_a_pipe_nothing_is_cut_or_hidden() {
        let name = "a-name-of-someone-who-follows-from-far-away";
        let text = text(vec![subscriber(name, "me")], Cut::Never);
        for part in [name, "PRINCIPAL", " me ", "stocks.nasdaq.quotes", "away"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
