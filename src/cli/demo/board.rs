//! What a dashboard sees: the newest value of some keys, and the account of all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::account::Accounts;
use crate::{
    cli::output::value_summary,
    client::{Connection, Event, FirstConnect, RetryOptions, Subscription},
    model::{self, UnixNanos},
    proto::v1::{self, start::From},
};

/// Keys that are shown: some of each kind, the damaged sensors among them.
const SHOWN: [&str; 11] = [
    "AAPL",
    "GOOG",
    "MSFT",
    "alamosa.air_temp",
    "alamosa.dw_solar",
    "alamosa.pressure",
    "alamosa.uvb",
    "bms.air_temp",
    "bms.chp1_temp",
    "bms.direct_normal",
    "bms.wind_speed",
];
const VALUE_WIDTH: usize = 34;

#[derive(Debug)]
pub(super) struct Board {
    accounts: Arc<Accounts>,
    rows: Mutex<BTreeMap<(String, String), Row>>,
    infos: Mutex<HashMap<String, v1::KeyInfo>>,
    /// Rises with each batch of records.
    seen: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Row {
    value: String,
    unit: String,
    quality: &'static str,
    event_time: UnixNanos,
}

impl Board {
    pub(super) fn new(accounts: Arc<Accounts>) -> Self {
        let (rows, infos) = (Mutex::default(), Mutex::default());
        Self {
            accounts,
            rows,
            infos,
            seen: watch::Sender::new(0),
        }
    }

    /// Follows the feeds from their beginning; ends only with an error.
    pub(super) async fn follow(
        &self,
        connection: Connection,
        feeds: &[String],
    ) -> anyhow::Result<()> {
        let selectors = feeds.iter().map(|feed| v1::Selector {
            feed: feed.clone(),
            start: Some(v1::Start {
                from: Some(From::Earliest(v1::Earliest {})),
            }),
            ..Default::default()
        });
        let request = v1::SubscribeRequest {
            selectors: selectors.collect(),
            include_info: true,
            subscriber: "demo dashboard".into(),
            ..Default::default()
        };
        let retry = RetryOptions {
            first: FirstConnect::Retry,
            give_up_after: None,
        };
        let mut subscription = Subscription::new(connection, request, retry)?;
        while let Some(event) = subscription.next().await? {
            self.take(event);
        }
        Ok(())
    }

    /// Becomes larger with each batch of records.
    pub(super) fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    fn take(&self, event: Event) {
        match event {
            Event::Records { feed, records, .. } => {
                let decoded = records
                    .iter()
                    .filter_map(|bytes| self.accounts.receive(&feed, bytes));
                decoded.for_each(|record| self.show(&feed, &record));
                self.seen.send_modify(|n| *n += 1);
            }
            Event::Gap { feed, .. } => self.accounts.change(&feed, |figures| figures.gaps += 1),
            Event::KeyInfo(update) => {
                self.infos
                    .lock()
                    .insert(update.key, update.info.unwrap_or_default());
            }
            Event::CaughtUp { .. }
            | Event::Heartbeat { .. }
            | Event::Bars { .. }
            | Event::Snapshot { .. }
            | Event::SnapshotComplete { .. }
            | Event::ModeChanged { .. }
            | Event::Narrowed { .. }
            | Event::SelectorEnded { .. }
            | Event::Disconnected { .. } => {}
        }
    }

    fn show(&self, feed: &str, record: &v1::Record) {
        if !SHOWN.contains(&record.key.as_str()) {
            return;
        }
        let place = (feed.to_owned(), record.key.clone());
        let infos = self.infos.lock();
        let info = infos.get(&record.key);
        let unit = info.and_then(|i| i.unit.clone().or_else(|| i.currency.clone()));
        let row = Row {
            value: value_summary(record, None),
            unit: unit.unwrap_or_default(),
            quality: quality(record),
            event_time: record.event_time_unix_nanos.unwrap_or_default(),
        };
        self.rows.lock().insert(place, row);
    }

    /// The table as it is now, one line an entry; 80 columns.
    pub(super) fn table(&self) -> Vec<String> {
        let now = model::now();
        let head = format!(
            "{:<15} {:<20.20} {:>19} {:<5} {:>6} {}",
            "FEED", "KEY", "VALUE", "UNIT", "AGE", "QUALITY"
        );
        let rows = self.rows.lock();
        let lines = rows.iter().map(|((feed, key), row)| {
            let age = age(now.saturating_sub(row.event_time));
            let value: String = row.value.chars().take(VALUE_WIDTH).collect();
            // A bar's four prices take the room of key and value together.
            let room = (40_usize).saturating_sub(key.chars().count().max(8));
            format!(
                "{feed:<15} {key:<8} {value:>room$} {:<5} {age:>6} {}",
                row.unit, row.quality
            )
        });
        std::iter::once(head).chain(lines).collect()
    }
}

fn quality(record: &v1::Record) -> &'static str {
    match &record.payload {
        Some(v1::record::Payload::Reading(reading)) => match reading.quality() {
            v1::Quality::Unspecified | v1::Quality::Good => "good",
            v1::Quality::Uncertain => "uncertain",
            v1::Quality::Bad => "bad",
        },
        _ => "",
    }
}

fn age(nanos: i64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        ..1 => format!("{} ms", (nanos / 1_000_000).max(0)),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
