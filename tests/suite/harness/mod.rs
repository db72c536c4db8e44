//! What the tests share: servers, requests, records, and a ledger of what a subscriber was told.

mod certificates;
mod ledger;
mod records;
mod server;
mod session;
mod upload;

use std::{future::Future, time::Duration};

pub(crate) use self::{
    certificates::{Authority, Pair},
    ledger::{Follow, Ledger, event_of, one, read_from, read_to_now},
    records::{
        dec, encode, event_nanos, number, number_of, own_bytes, reading, record, stored, text,
        vector,
    },
    server::{Server, Setup, scrape_of, scraped},
    session::{Talk, acknowledge, feed_of, hello, remove, set},
    upload::{
        batches, exact, expected_of, feed_exists, get_feed, numbered, plain, progress, reason,
        upload, violated_field,
    },
};

pub(crate) const MIB: u64 = 1 << 20;
/// Far beyond what anything here takes; reached only by a defect.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition that the server announces to nobody, and fails loudly when it never
/// comes true.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let check = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if holds().await {
                return;
            }
        }
    };
    within(what, check).await;
}

/// Runs `work`, and fails loudly when it does not end.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_elapsed) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Whether the long forms of the tests run.
pub(crate) fn torture() -> bool {
    std::env::var_os("TEST_TORTURE").is_some()
}

/// Random numbers that can be had again: SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Seeded by the environment or the clock; says with what.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var("RINGFEED_TEST_SEED").ok();
        let clock = || u64::from(std::process::id()) ^ ringfeed::model::now().cast_unsigned();
        let seed = given
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(clock);
        eprintln!("{test}: RINGFEED_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
