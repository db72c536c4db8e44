//! What a mapping knows of its keys, for `SetKeyInfo`.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail};

use super::{
    payload::duration_nanos,
    spec::{InfoSpec, ReadingSpec, Spec, TextSpec, VectorSpec},
};
use crate::proto::{convert::wire_duration, v1};

pub use v1::set_key_info_request::Scope;

/// All descriptions, widest scope first: `[info]`, globs, then keys.
pub(super) fn infos(spec: &Spec) -> anyhow::Result<Vec<(Scope, v1::KeyInfo)>> {
    let mut infos = Vec::new();
    let base = spec.info.clone().unwrap_or_default();
    let mut all = wire(&base)?;
    if let Some(reading) = &spec.reading {
        fill(&mut all, of_reading(reading));
    }
    if all != v1::KeyInfo::default() {
        infos.push((Scope::All(v1::AllKeys {}), all));
    }
    let wide = spec
        .wide
        .iter()
        .map(|wide| (wide.key.as_deref(), of_reading(wide)));
    let vectors = spec
        .vector
        .iter()
        .map(|vector| (vector.key.as_deref(), of_vector(vector)));
    for (key, info) in wide.chain(vectors) {
        infos.push((scope_of(&spec.key, key.unwrap_or_default()), info));
    }
    for scoped in &spec.keys {
        let scope = match (&scoped.key, &scoped.glob) {
            (Some(key), None) => Scope::Key(key.clone()),
            (None, Some(glob)) => Scope::Glob(glob.clone()),
            _ => bail!("each of [[keys]] names either a `key` or a `glob`"),
        };
        join(&mut infos, scope, wire(&scoped.info)?);
    }
    infos.sort_by_key(|(scope, _)| rank(scope));
    Ok(infos)
}

/// One scope is set once: a `[[keys]]` entry completes what a `[[wide]]` said.
fn join(infos: &mut Vec<(Scope, v1::KeyInfo)>, scope: Scope, info: v1::KeyInfo) {
    match infos.iter_mut().find(|(known, _)| *known == scope) {
        Some((_, known)) => fill(known, info),
        None => infos.push((scope, info)),
    }
}

fn rank(scope: &Scope) -> u8 {
    match scope {
        Scope::All(_) => 0,
        Scope::Glob(_) => 1,
        Scope::Key(_) => 2,
    }
}

/// The keys an entry gives: one, or all that end in its own key where the rest is in a column.
fn scope_of(base: &TextSpec, key: &str) -> Scope {
    let TextSpec {
        column,
        constant,
        prefix,
        suffix,
    } = base;
    if column.is_none() {
        let middle = constant.as_deref().unwrap_or_default();
        return Scope::Key(format!("{prefix}{middle}{suffix}{key}"));
    }
    Scope::Glob(format!(
        "{}*{}{}",
        escaped(prefix),
        escaped(suffix),
        escaped(key)
    ))
}

fn escaped(text: &str) -> String {
    globset::escape(text)
}

fn of_reading(spec: &ReadingSpec) -> v1::KeyInfo {
    v1::KeyInfo {
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        unit: spec.unit.clone(),
        display_decimals: spec.display_decimals,
        min: spec.min,
        max: spec.max,
        ..v1::KeyInfo::default()
    }
}

fn of_vector(spec: &VectorSpec) -> v1::KeyInfo {
    v1::KeyInfo {
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        unit: spec.unit.clone(),
        channels: spec
            .channels
            .clone()
            .unwrap_or_else(|| spec.columns.clone()),
        ..v1::KeyInfo::default()
    }
}

/// Sets what `more` has and `info` lacks.
fn fill(info: &mut v1::KeyInfo, more: v1::KeyInfo) {
    let known = std::mem::take(info);
    let mut labels = more.labels;
    labels.extend(known.labels);
    let mut enum_labels = more.enum_labels;
    enum_labels.extend(known.enum_labels);
    *info = v1::KeyInfo {
        display_name: known.display_name.or(more.display_name),
        description: known.description.or(more.description),
        labels,
        unit: known.unit.or(more.unit),
        currency: known.currency.or(more.currency),
        tick_size: known.tick_size.or(more.tick_size),
        display_decimals: known.display_decimals.or(more.display_decimals),
        min: known.min.or(more.min),
        max: known.max.or(more.max),
        enum_labels,
        channels: if known.channels.is_empty() {
            more.channels
        } else {
            known.channels
        },
        expected_interval: known.expected_interval.or(more.expected_interval),
        location: known.location.or(more.location),
    };
}

fn wire(spec: &InfoSpec) -> anyhow::Result<v1::KeyInfo> {
    let interval = spec
        .expected_interval
        .as_deref()
        .map(duration_nanos)
        .transpose();
    let interval = interval.context("`expected_interval`")?;
    let enum_labels = spec.enum_labels.iter().map(|(code, name)| {
        let code = code
            .parse()
            .with_context(|| format!("`enum_labels`: {code:?} is no integer"))?;
        Ok((code, name.clone()))
    });
    Ok(v1::KeyInfo {
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        unit: spec.unit.clone(),
        currency: spec.currency.clone(),
        tick_size: spec.tick_size.clone(),
        display_decimals: spec.display_decimals,
        min: spec.min,
        max: spec.max,
        enum_labels: enum_labels.collect::<anyhow::Result<HashMap<_, _>>>()?,
        channels: spec.channels.clone(),
        expected_interval: interval.map(|n| wire_duration(Duration::from_nanos(n.unsigned_abs()))),
        location: spec.location.map(|place| v1::Location {
            latitude: place.latitude,
            longitude: place.longitude,
            altitude_m: place.altitude_m,
        }),
    })
}
