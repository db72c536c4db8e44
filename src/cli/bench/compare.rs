//! Ratios to an earlier run of the same work.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::report::rounded;
use crate::cli::exit::Usage;

/// Figures of this run over those of an earlier one.
#[derive(Clone, Debug)]
pub(super) struct Ratios {
    ratios: Vec<(String, f64)>,
    /// What was asked for otherwise then.
    changed: Vec<String>,
}

/// Fields of fields as `outer.inner`, in their order.
pub(super) fn flat(report: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    for (name, value) in report {
        if let Some(inner) = value.as_object() {
            let inner = flat(inner).into_iter();
            fields.extend(inner.map(|(below, value)| (format!("{name}.{below}"), value)));
        } else {
            fields.push((name.clone(), value.clone()));
        }
    }
    fields
}

impl Ratios {
    /// The last run of the same work in a file of JSON lines, preferably asked for alike.
    pub(super) fn load(path: &Path, now: &Map<String, Value>) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut runs = Vec::new();
        for value in serde_json::Deserializer::from_str(&text).into_iter() {
            let run: Map<String, Value> =
                value.with_context(|| format!("{} is not what --json printed", path.display()))?;
            if run.get("work") == now.get("work") {
                runs.push(run);
            }
        }
        let alike = runs
            .iter()
            .rfind(|run| run.get("options") == now.get("options"));
        let Some(then) = alike.or_else(|| runs.last()) else {
            let work = now.get("work").and_then(Value::as_str).unwrap_or_default();
            let none = format!("{} has no run of {work}", path.display());
            return Err(Usage::new(none).into());
        };
        Ok(Self::new(then, now))
    }

    pub(super) fn new(then: &Map<String, Value>, now: &Map<String, Value>) -> Self {
        let then: Map<_, _> = flat(then).into_iter().collect();
        let (mut ratios, mut changed) = (Vec::new(), Vec::new());
        for (name, value) in flat(now) {
            let before = then.get(&name);
            if let Some(option) = name.strip_prefix("options.") {
                if before != Some(&value) {
                    let before = before.map_or_else(|| "nothing".to_owned(), Value::to_string);
                    changed.push(format!("{option}: {value} now, {before} then"));
                }
                continue;
            }
            if let (Some(now), Some(then)) = (value.as_f64(), before.and_then(Value::as_f64))
                && then != 0.0
            {
                ratios.push((name, now / then));
            }
        }
        Self { ratios, changed }
    }

    pub(super) fn of(&self, name: &str) -> Option<f64> {
        let found = self.ratios.iter().find(|(known, _)| known == name);
        found.map(|(_, ratio)| *ratio)
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.changed
    }

    pub(super) fn to_json(&self) -> Value {
        let ratios = self.ratios.iter();
        let ratios = ratios.map(|(name, ratio)| (name.clone(), rounded(*ratio).into()));
        Value::Object(ratios.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(batch: u64, rate: f64) -> Map<String, Value> {
        let run = json!({
            "work": "ingest",
            "options": {"batch": batch},
            "records_per_second": rate,
            "latency_micros": {"p50": 2.0 * rate},
        });
        run.as_object().unwrap().clone()
    }

    #[test]
    fn ratios_are_to_the_last_run_that_was_asked_for_alike() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("runs.jsonl");
        let lines = [run(1, 10.0), run(1, 50.0), run(256, 500.0)];
        let lines = lines.map(|run| Value::Object(run).to_string());
        fs::write(&file, lines.join("\n")).unwrap();
        let ratios = Ratios::load(&file, &run(1, 100.0)).unwrap();
        assert_eq!(ratios.of("records_per_second"), Some(2.0));
        assert_eq!(ratios.of("latency_micros.p50"), Some(2.0));
        assert_eq!(ratios.of("options.batch"), None);
        assert!(ratios.notes().is_empty());

        let ratios = Ratios::load(&file, &run(2, 1_000.0)).unwrap();
        assert_eq!(ratios.of("records_per_second"), Some(2.0));
        assert_eq!(ratios.notes(), ["batch: 2 now, 256 then"]);
    }

    #[test]
    fn a_file_without_such_a_run_is_wrong_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("runs.jsonl");
        fs::write(&file, "{\"work\":\"idle\"}").unwrap();
        let error = Ratios::load(&file, &run(1, 1.0)).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("ingest"));
    }
}
