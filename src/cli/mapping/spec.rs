//! What may stand in a mapping file. Unknown names are errors; the types are the documentation.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A mapping file: where each column of a CSV goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Default feed of the records.
    pub feed: String,
    #[serde(default)]
    pub file: FileSpec,
    /// Column or constant; with `wide` and `vector`, what stands before their own keys.
    #[serde(default)]
    pub key: TextSpec,
    /// When it happened; without it the server stamps the records.
    pub time: Option<TimeSpec>,
    /// When the source says it sent or received it.
    pub source_time: Option<TimeSpec>,
    /// Column of the source's own number.
    pub source_sequence: Option<CellSpec>,
    pub venue: Option<TextSpec>,
    /// Texts that stand for "no value"; just the empty cell by default.
    #[serde(default = "empty_cell")]
    pub missing: Vec<String>,
    #[serde(default)]
    pub when_missing: WhenMissing,
    /// What the codes of quality columns mean.
    #[serde(default)]
    pub quality: QualitySpec,
    pub quote: Option<QuoteSpec>,
    pub trade: Option<TradeSpec>,
    pub bar: Option<BarSpec>,
    pub status: Option<StatusSpec>,
    /// One reading per row.
    pub reading: Option<ReadingSpec>,
    /// One reading per row and entry, each with its own key.
    #[serde(default)]
    pub wide: Vec<ReadingSpec>,
    /// One reading per row and entry that holds several columns.
    #[serde(default)]
    pub vector: Vec<VectorSpec>,
    /// Description of all keys of the feed.
    pub info: Option<InfoSpec>,
    /// Descriptions of single keys and globs.
    #[serde(default)]
    pub keys: Vec<ScopedInfoSpec>,
    /// Columns that are dropped on purpose; `"*"` drops all that are not mapped.
    #[serde(default)]
    pub left_out: Vec<String>,
}

fn empty_cell() -> Vec<String> {
    vec![String::new()]
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// One character; a comma by default.
    pub delimiter: Option<char>,
    /// Names for the columns of a file that has no header line.
    pub columns: Option<Vec<String>>,
}

/// A text from a column or a constant; `key = "ticker"` is short for `{ column = "ticker" }`.
#[derive(Clone, Debug, Default)]
pub struct TextSpec {
    pub column: Option<String>,
    pub constant: Option<String>,
    pub prefix: String,
    pub suffix: String,
}

/// A column; `bid = "bid_price"` is short for `{ column = "bid_price" }`.
#[derive(Clone, Debug)]
pub struct CellSpec {
    pub column: String,
    /// In place of the mapping's `missing`.
    pub missing: Option<Vec<String>>,
    /// What its texts mean, for columns of sides and actions.
    pub values: BTreeMap<String, String>,
    /// Between several condition codes in one cell.
    pub separator: Option<String>,
}

/// When: one column with a format, or several columns, or one column counted from a start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    pub column: Option<String>,
    /// `rfc3339`; `unix_seconds`, `unix_millis`, `unix_micros`, `unix_nanos`; `seconds`, `millis`,
    /// `micros`, `nanos` counted from `since`; or strptime (`%Y-%m-%d`: midnight).
    pub format: Option<String>,
    /// RFC 3339; what relative times count from.
    pub since: Option<String>,
    /// IANA name or offset (`-07:00`) of local times; UTC by default. A time that a clock change
    /// repeats is the earlier one.
    pub zone: Option<String>,
    pub year: Option<String>,
    pub month: Option<String>,
    pub day: Option<String>,
    pub day_of_year: Option<String>,
    pub hour: Option<String>,
    pub minute: Option<String>,
    /// May have a fraction.
    pub second: Option<String>,
    /// One integer, 0 to 2359, in place of hour and minute.
    pub hhmm: Option<String>,
}

/// What becomes of a reading whose cell is missing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenMissing {
    /// A BAD reading without a value: somebody sees that the sensor is silent.
    #[default]
    Bad,
    /// No record.
    LeaveOut,
}

/// Codes of quality columns; a code in none of the lists breaks the row unless `other` is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualitySpec {
    pub good: Vec<Code>,
    pub uncertain: Vec<Code>,
    pub bad: Vec<Code>,
    pub other: Option<QualityName>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum QualityName {
    Good,
    Uncertain,
    Bad,
}

/// `0` and `"0"` are the same code.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Code {
    Number(i64),
    Text(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteSpec {
    pub bid: Option<CellSpec>,
    pub ask: Option<CellSpec>,
    pub bid_size: Option<CellSpec>,
    pub ask_size: Option<CellSpec>,
    pub conditions: Option<CellSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TradeSpec {
    pub price: CellSpec,
    pub size: Option<CellSpec>,
    pub trade_id: Option<CellSpec>,
    /// `values` maps its texts to `buy` and `sell`, the side that crossed the spread.
    pub side: Option<CellSpec>,
    pub conditions: Option<CellSpec>,
    /// `values` maps its texts to `new`, `correct` and `cancel`.
    pub action: Option<CellSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarSpec {
    /// Start of the interval; the record's own time by default.
    pub start: Option<TimeSpec>,
    /// Length of the interval: `1d`, `5m`, `1h`. A day is 24 hours.
    pub interval: String,
    pub open: CellSpec,
    pub high: CellSpec,
    pub low: CellSpec,
    pub close: CellSpec,
    pub volume: Option<CellSpec>,
    pub vwap: Option<CellSpec>,
    pub count: Option<CellSpec>,
    pub adjusted_close: Option<CellSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusSpec {
    pub state: TextSpec,
    pub reason: Option<CellSpec>,
}

/// A reading from one column: `[reading]` takes the mapping's key, a `[[wide]]` adds its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingSpec {
    pub column: String,
    pub key: Option<String>,
    #[serde(default)]
    pub kind: ValueKind,
    /// Column of the quality code.
    pub quality: Option<String>,
    pub missing: Option<Vec<String>>,
    pub when_missing: Option<WhenMissing>,
    /// A number below it is kept and marked BAD (a broken thermistor).
    pub impossible_below: Option<f64>,
    /// A number above it is kept and marked BAD.
    pub impossible_above: Option<f64>,
    /// `quality_code` of impossible values; the quality column's own by default.
    pub impossible_code: Option<u32>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub unit: Option<String>,
    pub display_decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// What the text of a cell becomes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    #[default]
    Double,
    /// Every digit kept.
    Decimal,
    Integer,
    Text,
    /// `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`.
    Flag,
}

/// Several columns of one instrument in one reading. One missing cell makes all of it missing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSpec {
    pub key: Option<String>,
    pub columns: Vec<String>,
    /// Names of the channels, in the order of the columns, which are their names by default.
    pub channels: Option<Vec<String>>,
    pub quality: Option<String>,
    pub missing: Option<Vec<String>>,
    pub when_missing: Option<WhenMissing>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub unit: Option<String>,
}

/// `KeyInfo` as it stands in a mapping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoSpec {
    pub display_name: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// UCUM.
    pub unit: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    pub tick_size: Option<String>,
    pub display_decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    #[serde(default)]
    pub enum_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub channels: Vec<String>,
    /// `1m`, `10ms`, `1d`.
    pub expected_interval: Option<String>,
    pub location: Option<LocationSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocationSpec {
    pub latitude: f64,
    pub longitude: f64,
    pub altitude_m: Option<f64>,
}

/// One of `key` and `glob`, and what is known of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopedInfoSpec {
    pub key: Option<String>,
    pub glob: Option<String>,
    pub info: InfoSpec,
}

impl Code {
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl From<String> for CellSpec {
    fn from(column: String) -> Self {
        Self {
            column,
            missing: None,
            values: BTreeMap::new(),
            separator: None,
        }
    }
}

impl From<String> for TextSpec {
    fn from(column: String) -> Self {
        Self {
            column: Some(column),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CellTable {
    column: String,
    missing: Option<Vec<String>>,
    #[serde(default)]
    values: BTreeMap<String, String>,
    separator: Option<String>,
}

impl From<CellTable> for CellSpec {
    fn from(table: CellTable) -> Self {
        let CellTable {
            column,
            missing,
            values,
            separator,
        } = table;
        Self {
            column,
            missing,
            values,
            separator,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextTable {
    column: Option<String>,
    constant: Option<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    suffix: String,
}

impl From<TextTable> for TextSpec {
    fn from(table: TextTable) -> Self {
        let TextTable {
            column,
            constant,
            prefix,
            suffix,
        } = table;
        Self {
            column,
            constant,
            prefix,
            suffix,
        }
    }
}

impl<'de> Deserialize<'de> for CellSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(NameOrTable::<CellTable>::default())
            .map(Either::into_spec)
    }
}

impl<'de> Deserialize<'de> for TextSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(NameOrTable::<TextTable>::default())
            .map(Either::into_spec)
    }
}

/// A column's name or a table; unlike an untagged enum, it keeps the errors of the table.
struct NameOrTable<T>(std::marker::PhantomData<T>);

impl<T> Default for NameOrTable<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

enum Either<T> {
    Name(String),
    Table(T),
}

impl<T> Either<T> {
    fn into_spec<S: From<String> + From<T>>(self) -> S {
        match self {
            Self::Name(name) => name.into(),
            Self::Table(table) => table.into(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrTable<T> {
    type Value = Either<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name, or a table such as { column = \"..\" }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Either<T>, E> {
        Ok(Either::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Either<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Either::Table)
    }
}
