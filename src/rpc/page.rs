//! Pages of lists: a token is the last name of the page before.

use tonic::Status;

use super::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, status};

const PREFIX: &str = "after:";

/// The name a page begins after.
pub(super) fn after(token: &str) -> Result<Option<&str>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let unknown = || status::invalid_argument("page_token", "was not issued by this server");
    token.strip_prefix(PREFIX).map(Some).ok_or_else(unknown)
}

pub(super) fn token(last: &str) -> String {
    format!("{PREFIX}{last}")
}

pub(super) fn size(asked: u32) -> usize {
    match asked as usize {
        0 => MAX_PAGE_ENTRIES,
        asked => asked.min(MAX_PAGE_ENTRIES),
    }
}

/// Cuts a list to a page of at most `size` entries and about 900 KiB; the token of the next one,
/// or nothing.
pub(super) fn cut<T: prost::Message>(
    entries: &mut Vec<T>,
    size: usize,
    name: impl Fn(&T) -> String,
) -> String {
    let mut bytes = 0;
    let fits = entries.iter().take(size).take_while(|entry| {
        bytes += entry.encoded_len();
        bytes <= MAX_PAGE_BYTES
    });
    let keep = fits.count().max(1);
    if keep >= entries.len() {
        return String::new();
    }
    entries.truncate(keep);
    entries
        .last()
        .map(|last| token(&name(last)))
        .unwrap_or_default()
}
