//! Proposes a mapping for an unknown CSV: `ringfeed ingest --guess file.csv`. A first draft for a
//! person to read, but one that parses, fits the file and gives records.

mod column;
mod payload;
mod time;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context as _;
use csv::StringRecord;

use self::column::{Column, Kind};
use super::source::sample;

/// Enough to see the missing markers of a day of minutes in most files.
const SAMPLE_ROWS: usize = 50_000;
const KEYS: [&str; 15] = [
    "ticker",
    "symbol",
    "sensor",
    "sensor_id",
    "key",
    "instrument",
    "device",
    "device_id",
    "station",
    "station_id",
    "id",
    "name",
    "tag",
    "channel",
    "location",
];

/// The proposal for a file, whose name gives the feed's.
pub fn guess_file(path: &Path) -> anyhow::Result<String> {
    let (delimiter, header, rows) =
        sample(path, SAMPLE_ROWS).with_context(|| format!("cannot read {}", path.display()))?;
    let stem = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let feed = feed_of(stem.split('.').next().unwrap_or_default());
    let text = guess(&feed, &header, &rows);
    if delimiter == b',' {
        return Ok(text);
    }
    let delimiter = char::from(delimiter).to_string();
    Ok(format!(
        "{text}\n[file]\ndelimiter = {}\n",
        quoted(&delimiter)
    ))
}

/// The proposal for a header and some rows: a mapping's text with comments.
pub fn guess(feed: &str, header: &StringRecord, rows: &[StringRecord]) -> String {
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    let columns = names
        .iter()
        .enumerate()
        .map(|(i, name)| Column::new(i, name, rows))
        .collect();
    let mut guess = Guess {
        columns,
        ..Guess::default()
    };
    let markers: BTreeSet<_> = guess
        .columns
        .iter()
        .flat_map(|c| c.markers.clone())
        .collect();
    let times = time::tables(&mut guess);
    let key = guess.take_key();
    guess.has_key = key.is_some();
    let payload = payload::tables(&mut guess);
    let source = payload::source_lines(&mut guess);
    guess.leave_out_the_rest();

    let mut text =
        "# Proposed by `ringfeed ingest --guess`. Check the times and units above all.\n"
            .to_owned();
    text += &format!("feed = {}\n", quoted(feed));
    text += &guess.key_line(key, feed);
    text += &source;
    text += &missing_line(&markers);
    text += &guess.left_out_lines();
    text += &times;
    text += &guess.quality_table();
    text + &payload
}

/// Columns that wait for a place, and what was found on the way.
#[derive(Debug, Default)]
struct Guess<'s> {
    columns: Vec<Column<'s>>,
    left_out: Vec<(&'s str, &'static str)>,
    keys: BTreeMap<String, u32>,
    /// Quality codes seen.
    codes: BTreeSet<String>,
    daily: bool,
    has_key: bool,
    /// More than one reading a row.
    several: bool,
}

impl<'s> Guess<'s> {
    fn free(&self) -> impl Iterator<Item = &Column<'s>> {
        self.columns.iter()
    }

    fn find(&self, names: &[&str]) -> Option<&'s str> {
        // The order of the names counts: `price` before `last`.
        let by_name = |name: &&str| self.columns.iter().find(|column| column.slug == *name);
        names.iter().find_map(by_name).map(|column| column.name)
    }

    /// Gives a column its place; returns the different values it has.
    fn take(&mut self, name: &str) -> BTreeSet<&'s str> {
        let index = self.columns.iter().position(|column| column.name == name);
        index
            .map(|index| self.columns.remove(index).distinct)
            .unwrap_or_default()
    }

    fn leave_out(&mut self, name: &'s str, reason: &'static str) {
        self.take(name);
        self.left_out.push((name, reason));
    }

    fn leave_out_the_rest(&mut self) {
        for name in self
            .columns
            .iter()
            .map(|column| column.name)
            .collect::<Vec<_>>()
        {
            self.leave_out(name, "no place found");
        }
    }

    /// The column of symbols or sensors: by its name, or a text with few different values.
    fn take_key(&mut self) -> Option<&'s str> {
        let text = |column: &&Column<'_>| column.kind == Kind::Text && column.markers.is_empty();
        let named = KEYS.into_iter().find_map(|key| {
            self.free()
                .find(|column| column.slug == key && column.markers.is_empty())
        });
        let few = |column: &&Column<'_>| column.distinct.len() * 2 <= column.values.len();
        let found = named.or_else(|| self.free().filter(text).find(few))?.name;
        self.take(found);
        Some(found)
    }

    fn unique_key(&mut self, slug: &str) -> String {
        let slug = if slug.is_empty() { "column" } else { slug };
        let count = self.keys.entry(slug.to_owned()).or_insert(0);
        *count += 1;
        if *count == 1 {
            slug.to_owned()
        } else {
            format!("{slug}_{count}")
        }
    }

    fn key_line(&self, key: Option<&str>, feed: &str) -> String {
        match key {
            Some(name) if self.several => {
                format!("key = {{ column = {}, suffix = \".\" }}\n", quoted(name))
            }
            Some(name) => format!("key = {}\n", quoted(name)),
            None if self.several => "# Keys are what stands in each [[wide]].\n".to_owned(),
            None => format!(
                "key = {{ constant = {} }} # no column tells the symbol\n",
                quoted(feed)
            ),
        }
    }

    fn left_out_lines(&self) -> String {
        if self.left_out.is_empty() {
            return String::new();
        }
        let lines = self.left_out.iter();
        let lines = lines.map(|(name, reason)| format!("  {}, # {reason}\n", quoted(name)));
        format!("left_out = [\n{}]\n", lines.collect::<String>())
    }

    fn quality_table(&self) -> String {
        if self.codes.is_empty() {
            return String::new();
        }
        let usual = self
            .codes
            .iter()
            .all(|code| matches!(code.as_str(), "0" | "1" | "2"));
        let table = if usual {
            "good = [0]\nbad = [1]\nuncertain = [2]\n".to_owned()
        } else {
            let codes: Vec<_> = self.codes.iter().map(String::as_str).collect();
            format!(
                "# Codes seen: {}\ngood = [0]\nother = \"uncertain\"\n",
                codes.join(", ").escape_debug()
            )
        };
        format!("\n[quality] # what the codes mean is a guess\n{table}")
    }
}

fn missing_line(markers: &BTreeSet<&str>) -> String {
    let all = markers.iter().copied().chain([""]).collect::<BTreeSet<_>>();
    let list: Vec<_> = all.into_iter().map(quoted).collect();
    format!("missing = [{}]\n", list.join(", "))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn feed_of(stem: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let name: String = stem.chars().map(word).take(64).collect();
    let name = name.trim_start_matches('_');
    if name.is_empty() {
        "guessed".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests;
