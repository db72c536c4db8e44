//! Tokens for many devices at once: a CSV of principals in, a CSV of tokens out.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{CreateArgs, add};
use crate::{
    cli::exit::{Usage, note},
    layers::NewToken,
};

#[derive(Debug, Deserialize)]
struct Row {
    principal: String,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    principal: &'a str,
    token: String,
}

pub(super) fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let Some(path) = &args.from_csv else {
        return Ok(());
    };
    let tokens = make(path, args)?;
    let csv = csv_of(&tokens)?;
    let entries = tokens.into_iter().map(|token| token.entry);
    let entries: Vec<_> = entries.collect();
    let count = entries.len();
    add(&args.file.file, entries, &csv, args.output.clone())?;
    note(&format!(
        "{count} tokens made; they are not shown again: only their hashes are kept"
    ));
    Ok(())
}

fn make(path: &Path, args: &CreateArgs) -> anyhow::Result<Vec<NewToken>> {
    let reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path);
    let mut reader = reader.with_context(|| format!("cannot read {}", path.display()))?;
    let mut seen = HashMap::new();
    let mut tokens = vec![];
    for (row, number) in reader.deserialize().zip(1_u64..) {
        let bad = |what: String| Usage::new(format!("{}: row {number}: {what}", path.display()));
        let row: Row = row.map_err(|error| bad(error.to_string()))?;
        if let Some(first) = seen.insert(row.principal.clone(), number) {
            return Err(bad(format!("{} is in row {first}, too", row.principal)).into());
        }
        let token = token_of(row, args).map_err(bad)?;
        tokens.push(token);
    }
    Ok(tokens)
}

fn token_of(row: Row, args: &CreateArgs) -> Result<NewToken, String> {
    let own = row.scopes.split_whitespace().map(str::to_owned);
    let mut scopes: Vec<String> = own.collect();
    scopes.extend(args.scope.iter().cloned());
    if scopes.is_empty() {
        return Err("no scope: fill the column scopes or pass --scope".into());
    }
    let description = row.description.filter(|text| !text.is_empty());
    let description = description.or_else(|| args.description.clone());
    NewToken::make(row.principal, scopes, args.expires, description)
        .map_err(|error| error.to_string())
}

fn csv_of(tokens: &[NewToken]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    for token in tokens {
        writer.serialize(Made {
            principal: &token.entry.principal,
            token: token.text.reveal(),
        })?;
    }
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}
