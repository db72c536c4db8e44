//! What was in the ring before we came: sparklines begin with it.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;

use super::trend;
use crate::{
    cli::output::kind,
    client::{Connection, Event, RetryOptions, SubscribeError, Subscription},
    proto::v1,
};

/// With more keys than these they begin with what comes: reading it would take too long.
pub(super) const MAX_KEYS: usize = 2_000;

/// Numbers by key and payload kind, with their offsets.
pub(super) type Older = HashMap<(String, &'static str), Vec<(u64, f64)>>;

/// Reads to the end of the request.
pub(super) async fn read(
    connection: Connection,
    request: v1::SubscribeRequest,
) -> Result<Older, SubscribeError> {
    let mut subscription = Subscription::new(connection, request, RetryOptions::default())?;
    let mut older = Older::new();
    while let Some(event) = subscription.next().await? {
        if let Event::Records { records, .. } = event {
            records
                .into_iter()
                .for_each(|record| enter(&mut older, record));
        }
    }
    Ok(older)
}

fn enter(older: &mut Older, record: Bytes) {
    // What cannot be read is told where it is shown.
    let Ok(record) = v1::Record::decode(record) else {
        return;
    };
    if let Some((number, _)) = record.payload.as_ref().and_then(trend::number) {
        let numbers = older
            .entry((record.key.clone(), kind(&record)))
            .or_default();
        numbers.push((record.offset, number));
    }
}
