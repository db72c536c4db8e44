//! `ringfeed subscribers`: who follows, and how far each one is behind.

use std::io;

use clap::Args;

use super::{
    args::ConnectArgs,
    exit::Outcome,
    plain::{self, Align, Columns, Cut},
    remote::Remote,
};
use crate::proto::{convert::std_duration, v1};

/// List open subscriptions: where each stands, how far it is behind, and when eviction reaches it
#[derive(Args, Debug)]
#[command(after_help = "Example: ringfeed subscribers sensors")]
pub(super) struct SubscribersArgs {
    /// All feeds when left out
    feed: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl SubscribersArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        let mut table = Columns::new(&[
            ("SUBSCRIBER", Align::Left),
            ("FEED", Align::Left),
            ("CURSOR", Align::Right),
            ("LAG", Align::Right),
            ("BEHIND", Align::Right),
            ("EVICTED IN", Align::Right),
            ("VIEW", Align::Left),
        ]);
        let mut request = v1::ListSubscribersRequest {
            feed: self.feed.unwrap_or_default(),
            ..v1::ListSubscribersRequest::default()
        };
        loop {
            let page = remote
                .catalog(|mut catalog| {
                    let request = request.clone();
                    async move { catalog.list_subscribers(request).await }
                })
                .await?;
            for subscriber in page.subscribers {
                table.row(row(subscriber));
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        table.write(&mut io::stdout().lock(), Cut::of_stdout())?;
        Ok(Outcome::Done)
    }
}

fn row(subscriber: v1::Subscriber) -> [String; 7] {
    let time = |wire: Option<prost_types::Duration>| {
        wire.as_ref()
            .and_then(std_duration)
            .map_or_else(|| "-".to_owned(), plain::duration)
    };
    let name = match subscriber.name.as_str() {
        "" => "(unnamed)".to_owned(),
        name => name.to_owned(),
    };
    [
        name,
        subscriber.feed,
        plain::count(subscriber.cursor),
        plain::count(subscriber.lag_records),
        time(subscriber.lag),
        time(subscriber.eviction_eta),
        subscriber.fidelity,
    ]
}
