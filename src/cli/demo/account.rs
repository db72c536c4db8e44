//! What was sent against what came back, record by record.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;

use crate::proto::v1;

/// One feed's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Records handed to the upload.
    pub sent: u64,
    /// Records the server said are durable.
    pub acked: u64,
    pub refused: u64,
    /// Records that came back, each equal to what was sent, in order.
    pub delivered: u64,
    /// Records that never came though later ones did.
    pub lost: u64,
    /// Records that came again, or that nobody sent.
    pub doubled: u64,
    pub gaps: u64,
    /// The next offset the follower expects.
    pub next_offset: u64,
}

/// Figures, and what they are checked against.
#[derive(Debug, Default)]
pub(super) struct Account {
    figures: Figures,
    /// Sent and not seen yet, as sent.
    open: VecDeque<Bytes>,
}

impl Figures {
    /// Records that are stored and have not been seen.
    pub(super) fn missing(&self) -> u64 {
        self.acked.saturating_sub(self.delivered) + self.lost
    }
}

impl Account {
    fn receive(&mut self, record: &Bytes) {
        match self.open.iter().position(|sent| sent == record) {
            Some(skipped) => {
                self.figures.lost += skipped as u64;
                self.open.drain(..=skipped);
                self.figures.delivered += 1;
            }
            None => self.figures.doubled += 1,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<BTreeMap<String, Account>>);

impl Accounts {
    /// Notes a record before it is sent.
    pub(super) fn send(&self, feed: &str, record: Bytes) {
        self.with(feed, |account| {
            account.figures.sent += 1;
            account.open.push_back(record);
        });
    }

    pub(super) fn change(&self, feed: &str, change: impl FnOnce(&mut Figures)) {
        self.with(feed, |account| change(&mut account.figures));
    }

    /// Compares a received record with what was sent. Returns it decoded.
    pub(super) fn receive(&self, feed: &str, bytes: &Bytes) -> Option<v1::Record> {
        let record = v1::Record::decode(bytes.as_ref()).ok()?;
        let plain = v1::Record {
            offset: 0,
            ingest_time_unix_nanos: 0,
            ..record.clone()
        };
        let plain = Bytes::from(plain.encode_to_vec());
        self.with(feed, |account| {
            account.receive(&plain);
            account.figures.next_offset = record.offset + 1;
        });
        Some(record)
    }

    /// A feed's figures.
    pub(super) fn of(&self, feed: &str) -> Figures {
        self.0
            .lock()
            .get(feed)
            .map(|account| account.figures)
            .unwrap_or_default()
    }

    /// All feeds' figures, by name.
    pub(super) fn all(&self) -> BTreeMap<String, Figures> {
        let accounts = self.0.lock();
        accounts
            .iter()
            .map(|(feed, account)| (feed.clone(), account.figures))
            .collect()
    }

    fn with(&self, feed: &str, change: impl FnOnce(&mut Account)) {
        let mut accounts = self.0.lock();
        match accounts.get_mut(feed) {
            Some(account) => change(account),
            None => change(accounts.entry(feed.to_owned()).or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: i64) -> v1::Record {
        v1::Record {
            key: "k".into(),
            event_time_unix_nanos: Some(n),
            ..Default::default()
        }
    }

    #[test]
    fn lost_and_doubled_records_are_counted() {
        let accounts = Accounts::default();
        for n in 0..5 {
            accounts.send("f", record(n).encode_to_vec().into());
        }
        for n in [0, 1, 1, 4] {
            let stored = v1::Record {
                offset: 7,
                ingest_time_unix_nanos: 9,
                ..record(n)
            };
            assert_eq!(
                accounts.receive("f", &stored.encode_to_vec().into()),
                Some(stored)
            );
        }
        let account = accounts.of("f");
        assert_eq!((account.sent, account.delivered), (5, 3));
        assert_eq!((account.lost, account.doubled), (2, 1));
        assert_eq!(account.next_offset, 8);
    }
}
