//! Tests of mappings.

mod bars;
mod recordings;
mod rules;

pub(super) use recordings::recording;

use crate::proto::{json::to_json, v1};

fn printed(record: &v1::Record) -> String {
    to_json(record).to_string()
}
