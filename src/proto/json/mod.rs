//! Records as JSON, flat and friendly, both ways: what `subscribe --format jsonl` prints is what
//! `ingest --format jsonl` accepts.
//!
//! ```text
//! {"key":"AAPL","time":"2016-05-25T13:30:00.023000000Z","quote":{"bid":"98.99","ask":"99.01"}}
//! {"key":"pi17.temp","value":21.5}                       the server stamps the time
//! {"key":"pi17.temp","reading":{"decimal":"21.50"},"quality":"bad"}
//! ```
//!
//! 64-bit integers and decimals are strings in what is written; read are strings or numbers, as
//! long as they are exact. Fields of the server are read and dropped. Unknown fields are errors.

mod bars;
mod read;
mod write;

pub use bars::{
    Figure, bar_record, bar_to_json, figure_value, reading_fields, source_name, view_fields,
};
pub use read::{InvalidJson, from_json, parse_line};
pub use write::{placed_record, to_json};

#[cfg(test)]
mod tests;
