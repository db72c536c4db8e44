//! The scan against the reference of its tests: the same verdict, field and reason on any bytes,
//! and what passes is what prost decodes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfeed::{
    model::PayloadKind,
    proto::{
        v1::{self, record::Payload},
        wire::{self, Limits, Reason},
    },
};

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../src/proto/wire/tests/reference.rs"]
mod reference;

/// Small enough for the fuzzer to pass them.
const LIMITS: Limits = Limits {
    record_bytes: 2_000,
    key_bytes: 20,
    latest_event_time: 1_800_000_000_000_000_000,
};

fuzz_target!(|bytes: &[u8]| {
    match (wire::scan(bytes, &LIMITS), reference::judge(bytes, &LIMITS)) {
        (Ok(view), Ok(record)) => {
            assert_eq!(view.key, record.key);
            assert_eq!(view.event_time, record.event_time_unix_nanos);
            assert_eq!(Some(view.kind), record.payload.as_ref().map(kind));
            let cut = reference::without_server_fields(bytes).len() < bytes.len();
            assert_eq!(view.server_owned, cut);
        }
        (Err(invalid), Err(offence)) => assert_eq!((invalid.field, invalid.reason), offence),
        (scanned, judged) => panic!("the scan says {scanned:?}, the reference {judged:?}"),
    }
});

fn kind(payload: &Payload) -> PayloadKind {
    match payload {
        Payload::Quote(_) => PayloadKind::Quote,
        Payload::Trade(_) => PayloadKind::Trade,
        Payload::Bar(_) => PayloadKind::Bar,
        Payload::Reading(_) => PayloadKind::Reading,
        Payload::Status(_) => PayloadKind::Status,
    }
}
