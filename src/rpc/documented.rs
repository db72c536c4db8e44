//! docs/errors.md says what the tables of reasons say, and nothing is in them that never happens.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    errors::{Again, Reason, code_name},
    proto::wire,
};

fn again(reason: Reason) -> &'static str {
    match reason.again() {
        Again::Changed => "no: something has to change first",
        Again::After(_) => "after the time in RetryInfo",
        Again::Backoff => "with a backoff",
        Again::Resume => "from where it was",
    }
}

fn reasons() -> String {
    let mut table = "| Reason | Code | Again? | What happened |\n|---|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let (name, code) = (reason.name(), code_name(reason.code()));
        let (again, meaning) = (again(reason), reason.meaning());
        writeln!(table, "| `{name}` | {code} | {again} | {meaning} |").unwrap();
    }
    table
}

fn refusals() -> String {
    let mut table = "| Reason | What is wrong with the record |\n|---|---|\n".to_owned();
    for reason in wire::Reason::ALL {
        let (name, meaning) = (reason.code(), reason.meaning());
        writeln!(table, "| `{name}` | {meaning} |").unwrap();
    }
    table
}

#[test]
fn the_document_has_the_tables_of_the_code() {
    let document = include_str!("../../docs/errors.md");
    for table in [reasons(), refusals()] {
        assert!(
            document.contains(&table),
            "docs/errors.md is to have this table:\n\n{table}"
        );
    }
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let listed = Reason::ALL.len() + wire::Reason::ALL.len();
    assert_eq!(rows.count(), listed, "a row too many, or one twice");
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    });
    below.collect()
}

#[test]
fn every_reason_is_given_by_something() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut code = String::new();
    for path in sources(&src) {
        // Neither the table itself nor tests produce anything.
        let names = path.strip_prefix(&src).unwrap().display().to_string();
        if names == "errors/mod.rs" || names == "rpc/documented.rs" || names.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let own = names.starts_with("errors/");
        code += &if own {
            text.replace("Self::", "Reason::")
        } else {
            text.to_owned()
        };
    }
    let given = |reason: &Reason| {
        let name = format!("Reason::{reason:?}");
        let mut found = code.match_indices(&name);
        found.any(|(at, _)| !code[at + name.len()..].starts_with(|c: char| c.is_alphanumeric()))
    };
    let never: Vec<_> = Reason::ALL.iter().filter(|reason| !given(reason)).collect();
    assert!(never.is_empty(), "in the table, but never given: {never:?}");
}
