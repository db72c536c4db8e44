//! `ringfeed keys`: what keys a feed has, what is known of them, and how to say more.

use std::{collections::HashMap, io, time::Duration};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{
    args::{ConnectArgs, duration},
    exit::{Outcome, Usage, note},
    output::Paper,
    plain::{self, Align, Columns},
    remote::Remote,
};
use crate::{
    model::now,
    proto::{
        convert::{std_duration, wire_duration},
        v1::{self, set_key_info_request::Scope},
    },
};

/// List, describe or forget the keys of a feed
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ringfeed keys sensors\n  ringfeed keys sensors set pi17.temp --unit Cel --name \"Boiler, flow\"\n  ringfeed keys sensors delete pi16.temp"
)]
pub(super) struct KeysArgs {
    feed: String,
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    Set(Box<SetArgs>),
    Delete(DeleteArgs),
}

/// Describe a key, the keys of a glob, or all; replaces what was said of the same before
#[derive(Args, Debug)]
struct SetArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    info: InfoArgs,
    /// Take the description back
    #[arg(long)]
    clear: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct ScopeArgs {
    key: Option<String>,
    /// The keys this glob matches, for instance "pi17.*"
    #[arg(long)]
    glob: Option<String>,
    /// All keys of the feed
    #[arg(long)]
    all: bool,
}

#[derive(Args, Debug)]
struct InfoArgs {
    /// Short name for people
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// Unit in UCUM notation, for instance Cel or W/m2
    #[arg(long)]
    unit: Option<String>,
    /// Currency of a price, ISO 4217
    #[arg(long)]
    currency: Option<String>,
    /// Smallest price step
    #[arg(long)]
    tick_size: Option<String>,
    /// Digits behind the point to show
    #[arg(long)]
    decimals: Option<u32>,
    /// Least plausible value
    #[arg(long, allow_negative_numbers = true)]
    min: Option<f64>,
    /// Greatest plausible value
    #[arg(long, allow_negative_numbers = true)]
    max: Option<f64>,
    /// Usual time between readings; a key is stale after three
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expected_interval: Option<Duration>,
    /// Channel name of a vector; repeat it in order
    #[arg(long)]
    channel: Vec<String>,
    /// Free label NAME=VALUE; repeat it for several
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Name of an integer value NUMBER=NAME; repeat it for several
    #[arg(long, value_name = "NUMBER=NAME", value_parser = enum_label)]
    enum_label: Vec<(i64, String)>,
}

/// Forget keys: their latest records and descriptions; records in the ring stay
#[derive(Args, Debug)]
struct DeleteArgs {
    #[arg(required = true)]
    keys: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), Usage> {
    let pair = text.split_once('=');
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| Usage::new(format!("{text:?} is not NAME=VALUE")))
}

fn enum_label(text: &str) -> Result<(i64, String), Usage> {
    let (number, name) = pair(text)?;
    let number = number
        .parse()
        .map_err(|_invalid| Usage::new(format!("{text:?} does not begin with a whole number")))?;
    Ok((number, name))
}

impl KeysArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        match self.action {
            None => list(&remote, &self.feed).await?,
            Some(Action::Set(set)) => set.run(&remote, self.feed).await?,
            Some(Action::Delete(delete)) => delete.run(&remote, self.feed).await?,
        }
        Ok(Outcome::Done)
    }
}

/// Calls `each` with every page of a feed's keys.
pub(super) async fn for_each_page(
    remote: &Remote,
    feed: &str,
    mut each: impl FnMut(Vec<v1::Key>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut request = v1::ListKeysRequest {
        feed: feed.to_owned(),
        ..v1::ListKeysRequest::default()
    };
    loop {
        let page = remote
            .catalog(|mut catalog| {
                let request = request.clone();
                async move { catalog.list_keys(request).await }
            })
            .await?;
        each(page.keys)?;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn list(remote: &Remote, feed: &str) -> anyhow::Result<()> {
    let mut table = Columns::new(&[
        ("KEY", Align::Left),
        ("KIND", Align::Left),
        ("OFFSET", Align::Right),
        ("LAST", Align::Right),
        ("UNIT", Align::Left),
        ("NAME", Align::Left),
    ])
    // What a key is called, and the texts of whoever described it.
    .yielding(&[0, 1, 4, 5]);
    for_each_page(remote, feed, |keys| {
        keys.into_iter().for_each(|key| table.row(row(key)));
        Ok(())
    })
    .await?;
    table.write(&mut io::stdout().lock(), Paper::of_stdout().cut)?;
    Ok(())
}

fn row(key: v1::Key) -> [String; 6] {
    let info = key.info.unwrap_or_default();
    let now = now();
    let age = u64::try_from(now.saturating_sub(key.last_ingest_time_unix_nanos));
    let interval = info.expected_interval.as_ref().and_then(std_duration);
    let stale = interval.is_some_and(|interval| {
        age.is_ok_and(|age| Duration::from_nanos(age) > interval.saturating_mul(3))
    });
    let last = plain::ago(Some(key.last_ingest_time_unix_nanos), now);
    [
        key.key,
        key.kinds.join(","),
        plain::count(key.last_offset),
        if stale {
            format!("{last}, stale")
        } else {
            last
        },
        info.unit.or(info.currency).unwrap_or_default(),
        info.display_name.unwrap_or_default(),
    ]
}

impl SetArgs {
    async fn run(self, remote: &Remote, feed: String) -> anyhow::Result<()> {
        let info = self.info.wire();
        if !self.clear && info == v1::KeyInfo::default() {
            bail!(Usage::new(
                "say what is known, for instance --unit Cel, or --clear to take it back"
            ));
        }
        let request = v1::SetKeyInfoRequest {
            feed,
            info: (!self.clear).then_some(info),
            scope: Some(self.scope.wire()),
        };
        remote
            .catalog(|mut catalog| {
                let request = request.clone();
                async move { catalog.set_key_info(request).await }
            })
            .await?;
        Ok(())
    }
}

impl ScopeArgs {
    fn wire(self) -> Scope {
        match (self.key, self.glob) {
            (Some(key), _) => Scope::Key(key),
            (None, Some(glob)) => Scope::Glob(glob),
            (None, None) => Scope::All(v1::AllKeys {}),
        }
    }
}

impl InfoArgs {
    fn wire(self) -> v1::KeyInfo {
        v1::KeyInfo {
            display_name: self.name,
            description: self.description,
            labels: self.label.into_iter().collect::<HashMap<_, _>>(),
            unit: self.unit,
            currency: self.currency,
            tick_size: self.tick_size,
            display_decimals: self.decimals,
            min: self.min,
            max: self.max,
            enum_labels: self.enum_label.into_iter().collect(),
            channels: self.channel,
            expected_interval: self.expected_interval.map(wire_duration),
            location: None,
        }
    }
}

impl DeleteArgs {
    async fn run(self, remote: &Remote, feed: String) -> anyhow::Result<()> {
        let asked = self.keys.len();
        let request = v1::DeleteKeysRequest {
            feed,
            keys: self.keys,
        };
        let answer = remote
            .catalog(|mut catalog| {
                let request = request.clone();
                async move { catalog.delete_keys(request).await }
            })
            .await?;
        note(&format!("{} of {asked} keys forgotten", answer.deleted));
        Ok(())
    }
}
