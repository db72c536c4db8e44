//! `ringfeed latest`: the last record of each key.

use std::{
    collections::HashMap,
    io::{self, BufWriter},
};

use clap::Args;
use prost::Message as _;

use super::{
    args::ConnectArgs,
    exit::Outcome,
    keys::for_each_page,
    output::{Entry, Format, Paper, Printer},
    remote::Remote,
};
use crate::{model::now, proto::v1};

/// Print the last record of each key
#[derive(Args, Debug)]
#[command(after_help = "Example: ringfeed latest sensors --key pi17.temp")]
pub(super) struct LatestArgs {
    feed: String,
    /// Key wanted; repeat it for several, leave it out for all
    #[arg(long)]
    key: Vec<String>,
    /// What comes last: the greatest event time, or what arrived last
    #[arg(long, value_enum, default_value = "event-time")]
    by: By,
    /// table on a terminal, else jsonl
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    EventTime,
    Arrival,
}

/// What is printed when the user does not say: a table for people, JSON lines for programs.
pub(super) fn default_format() -> Format {
    if console::user_attended() {
        Format::Table
    } else {
        Format::Jsonl
    }
}

impl LatestArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        let format = self.format.unwrap_or_else(default_format);
        let infos = match format {
            Format::Table => self.infos(&remote).await?,
            Format::Jsonl | Format::Csv => HashMap::new(),
        };
        let out = BufWriter::new(io::stdout().lock());
        let mut printer = Printer::new(format, Paper::of_stdout(), out);
        let mut request = v1::GetLatestRequest {
            feed: self.feed.clone(),
            keys: self.key.clone(),
            by: match self.by {
                By::EventTime => v1::LatestBy::EventTime.into(),
                By::Arrival => v1::LatestBy::Arrival.into(),
            },
            ..v1::GetLatestRequest::default()
        };
        loop {
            let page = remote
                .feed(|mut feed| {
                    let request = request.clone();
                    async move { feed.get_latest(request).await }
                })
                .await?;
            let epoch = page.as_of.unwrap_or_default().epoch;
            for bytes in page.records {
                let record = v1::Record::decode(bytes)?;
                let entry = Entry {
                    feed: &self.feed,
                    epoch,
                    record: &record,
                    info: infos.get(&record.key),
                };
                printer.record(&entry, now())?;
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        printer.flush()?;
        Ok(Outcome::Done)
    }

    async fn infos(&self, remote: &Remote) -> anyhow::Result<HashMap<String, v1::KeyInfo>> {
        let mut infos = HashMap::new();
        for_each_page(remote, &self.feed, |keys| {
            let described = keys
                .into_iter()
                .filter_map(|key| Some((key.key, key.info?)));
            infos.extend(described);
            Ok(())
        })
        .await?;
        Ok(infos)
    }
}
