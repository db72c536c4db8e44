//! Mapping files: how the rows of a CSV become records. `Source` reads files, `guess` proposes a
//! mapping for an unknown one. For `ingest` and `demo`.
//!
//! ```text
//! toml ── parse ──> Mapping ── bind(header) ──> Bound ── records(row) ──> records or a RowError
//! ```
//!
//! Every column of a file has a place in its mapping or is named in `left_out`; `spec` documents
//! what a mapping may say, `fixtures/` has one for each kind of file.

mod binder;
mod bound;
mod clock;
mod guess;
mod info;
mod payload;
mod reading;
mod row;
mod source;
pub mod spec;

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use csv::StringRecord;

use self::spec::Spec;
pub use self::{
    bound::Bound,
    guess::{guess, guess_file},
    info::Scope,
    row::RowError,
    source::{Broken, InputFormat, Source, mapping_beside},
};
use crate::{model::FeedName, proto::v1};

/// A mapping that is well-formed; whether it fits a file shows when it is bound to its header.
#[derive(Clone, Debug)]
pub struct Mapping {
    spec: Spec,
    feed: FeedName,
    infos: Vec<(Scope, v1::KeyInfo)>,
    text: String,
}

impl Mapping {
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the mapping {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the mapping {}", path.display()))
    }

    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let spec: Spec = toml::from_str(text)?;
        check(&spec)?;
        Ok(Self {
            feed: spec.feed.parse()?,
            infos: info::infos(&spec)?,
            text: text.to_owned(),
            spec,
        })
    }

    /// Finds the mapping's columns in a header line.
    pub fn bind(&self, header: &StringRecord) -> anyhow::Result<Bound> {
        Bound::new(&self.spec, header)
    }

    /// The feed the records go to, unless the command line names another.
    pub fn feed(&self) -> &FeedName {
        &self.feed
    }

    /// What is known of the keys, widest scope first.
    pub fn infos(&self) -> &[(Scope, v1::KeyInfo)] {
        &self.infos
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn delimiter(&self) -> anyhow::Result<u8> {
        let delimiter = self.spec.file.delimiter.unwrap_or(',');
        u8::try_from(delimiter)
            .ok()
            .filter(u8::is_ascii)
            .with_context(|| format!("the delimiter {delimiter:?} is not one ASCII character"))
    }
}

/// What serde cannot say: which parts go together.
fn check(spec: &Spec) -> anyhow::Result<()> {
    let kinds = [
        spec.quote.is_some(),
        spec.trade.is_some(),
        spec.bar.is_some(),
        spec.status.is_some(),
        spec.reading.is_some(),
        !spec.wide.is_empty() || !spec.vector.is_empty(),
    ];
    let count = kinds.into_iter().filter(|is| *is).count();
    ensure!(
        count == 1,
        "a mapping has one of [quote], [trade], [bar], [status], [reading], or [[wide]] and [[vector]]; this one has {count}"
    );
    let has_key = spec.key.column.is_some() || spec.key.constant.is_some();
    let several = spec.wide.len() + spec.vector.len();
    let own = spec.wide.iter().map(|wide| &wide.key);
    let all_own = own
        .chain(spec.vector.iter().map(|vector| &vector.key))
        .all(Option::is_some);
    ensure!(
        if several == 0 {
            has_key
        } else {
            all_own || (several == 1 && has_key)
        },
        "every record needs a key: give `key` a `column` or `constant`, and each [[wide]] or [[vector]] its own `key`"
    );
    let reading_key = spec
        .reading
        .as_ref()
        .and_then(|reading| reading.key.as_ref());
    ensure!(
        reading_key.is_none(),
        "`key` stands at the top with [reading], not in it"
    );
    if let Some(bar) = &spec.bar {
        ensure!(
            spec.time.is_some() || bar.start.is_some(),
            "a bar needs a start: give the mapping a `time` or [bar] a `start`"
        );
    }
    if let Some(quote) = &spec.quote {
        ensure!(
            quote.bid.is_some() || quote.ask.is_some(),
            "[quote] needs `bid` or `ask`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
