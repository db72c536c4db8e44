//! `ringfeed producers`: who uploads, and how far each one came.

use std::{io, time::Duration};

use clap::Args;

use super::{
    args::{ConnectArgs, duration},
    exit::Outcome,
    output::Paper,
    plain::{self, Align, Columns},
    remote::Remote,
};
use crate::{
    model::now,
    proto::{
        convert::{timestamp_nanos, wire_duration},
        v1,
    },
};

/// List producers: how far each came and when it was last seen
#[derive(Args, Debug)]
#[command(after_help = "Example: ringfeed producers sensors --stale 10m")]
pub(super) struct ProducersArgs {
    /// All feeds when left out
    feed: Option<String>,
    /// Only those not seen for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stale: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ProducersArgs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let remote = Remote::new(&self.connect)?;
        let mut table = Columns::new(&[
            ("PRODUCER", Align::Left),
            ("FEED", Align::Left),
            ("PRINCIPAL", Align::Left),
            ("SEQUENCE", Align::Right),
            ("REFUSED", Align::Right),
            ("LAST SEEN", Align::Left),
            ("CONNECTED", Align::Left),
        ])
        .yielding(&[0, 1, 2]);
        let mut request = v1::ListProducersRequest {
            feed: self.feed.unwrap_or_default(),
            stale: self.stale.map(wire_duration),
            ..v1::ListProducersRequest::default()
        };
        loop {
            let page = remote
                .catalog(|mut catalog| {
                    let request = request.clone();
                    async move { catalog.list_producers(request).await }
                })
                .await?;
            for producer in page.producers {
                table.row(row(producer));
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        table.write(&mut io::stdout().lock(), Paper::of_stdout().cut)?;
        Ok(Outcome::Done)
    }
}

fn row(producer: v1::Producer) -> [String; 7] {
    let seen = producer.last_seen_time.as_ref().and_then(timestamp_nanos);
    [
        producer.producer,
        producer.feed,
        producer.principal,
        match producer.durable_sequence {
            // Sequences count from 1: it never sent a record.
            0 => "-".to_owned(),
            sequence => plain::count(sequence),
        },
        plain::count(producer.refused),
        plain::ago(seen, now()),
        if producer.connected { "yes" } else { "no" }.to_owned(),
    ]
}
