//! Reading requests: names, durations, principals; each mistake names its field.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tonic::Status;

use super::status;
use crate::{
    model::{FeedName, ProducerName, Retention, Visibility},
    proto::v1,
};

const MAX_NAME_BYTES: usize = 128;

/// Such calls are left to the generated service.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    let encoding = headers.get("grpc-encoding");
    encoding.is_some_and(|encoding| encoding != "identity")
}

pub(super) fn feed_name(field: &str, name: &str) -> Result<FeedName, Status> {
    if name.is_empty() {
        return Err(status::invalid_argument(field, "is missing; name a feed"));
    }
    name.parse()
        .map_err(|e| status::invalid_argument(field, &format!("\"{name}\": {e}")))
}

/// A name for a subscriber; empty: none.
pub(super) fn subscriber_name(name: &str) -> Result<Arc<str>, Status> {
    if name.len() > MAX_NAME_BYTES {
        return Err(status::invalid_argument("subscriber", "is over 128 bytes"));
    }
    Ok(name.into())
}

pub(super) fn producer_name(field: &str, name: &str) -> Result<ProducerName, Status> {
    if name.len() > MAX_NAME_BYTES {
        return Err(status::invalid_argument(field, "is over 128 bytes"));
    }
    Ok(name.into())
}

pub(super) fn duration(field: &str, duration: &prost_types::Duration) -> Result<Duration, Status> {
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    match (u64::try_from(duration.seconds), nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(status::invalid_argument(
            field,
            "is not a duration of 0 or more",
        )),
    }
}

pub(super) fn retention(wanted: &v1::Retention, default: Retention) -> Result<Retention, Status> {
    let max_age = wanted
        .max_age
        .as_ref()
        .map(|age| duration("retention.max_age", age));
    Ok(Retention {
        max_bytes: if wanted.max_bytes == 0 {
            default.max_bytes
        } else {
            wanted.max_bytes
        },
        max_age: max_age
            .transpose()?
            .filter(|age| !age.is_zero())
            .or(default.max_age),
    })
}

pub(super) fn visibility(wanted: i32) -> Result<Option<Visibility>, Status> {
    match v1::Visibility::try_from(wanted) {
        Ok(v1::Visibility::Unspecified) => Ok(None),
        Ok(v1::Visibility::Durable) => Ok(Some(Visibility::Durable)),
        Ok(v1::Visibility::Immediate) => Ok(Some(Visibility::Immediate)),
        Err(_) => Err(status::invalid_argument(
            "visibility",
            "is not a value of this enum",
        )),
    }
}
