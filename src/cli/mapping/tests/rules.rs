//! What mappings say, what they refuse, and how broken rows are told.

use csv::StringRecord;

use super::{super::*, printed};

const SENSOR: &str = "feed = \"f\"\nkey = \"id\"\n[time]\ncolumn = \"t\"\nformat = \"rfc3339\"\n[reading]\ncolumn = \"v\"\n";

fn bound(toml: &str, header: &[&str]) -> anyhow::Result<Bound> {
    Mapping::parse(toml)?.bind(&StringRecord::from(header.to_vec()))
}

fn one(toml: &str, header: &[&str], row: &[&str]) -> Result<String, String> {
    let bound = bound(toml, header).map_err(|error| format!("{error:#}"))?;
    let mut records = Vec::new();
    bound
        .records(17, &StringRecord::from(row.to_vec()), &mut records)
        .map_err(|error| error.to_string())?;
    Ok(records.iter().map(printed).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_broken_row_names_row_column_and_value() {
    let header = ["id", "t", "v"];
    let broken = |row: &[&str]| one(SENSOR, &header, row).unwrap_err();
    assert_eq!(
        broken(&["a", "2020-01-01T00:00:00Z", "12,5"]),
        "row 17, column \"v\": \"12,5\" is not a finite number; if it stands for no value, name it in `missing`"
    );
    assert!(
        broken(&["a", "yesterday\u{1b}[2J", "1"])
            .starts_with("row 17, column \"t\": \"yesterday\\u{1b}[2J\" is not a time")
    );
    assert_eq!(
        broken(&["", "2020-01-01T00:00:00Z", "1"]),
        "row 17, column \"id\": is missing, and the record needs it"
    );
    assert_eq!(
        broken(&["a", "", "1"]),
        "row 17, column \"t\": is missing, and the record needs it"
    );
    assert!(broken(&["a", "2020-01-01T00:00:00Z", "NaN"]).contains("is not a finite number"));
    assert!(
        one(SENSOR, &header, &["a", "2020-01-01T00:00:00Z", ""])
            .unwrap()
            .contains("\"bad\"")
    );
}

#[test]
fn a_broken_cell_gives_none_of_its_row() {
    let toml = "feed = \"f\"\n[[wide]]\ncolumn = \"a\"\nkey = \"a\"\n[[wide]]\ncolumn = \"b\"\nkey = \"b\"\n";
    let bound = bound(toml, &["a", "b"]).unwrap();
    let mut records = Vec::new();
    bound
        .records(2, &StringRecord::from(vec!["1", "2"]), &mut records)
        .unwrap();
    let error = bound
        .records(3, &StringRecord::from(vec!["1", "x"]), &mut records)
        .unwrap_err();
    assert_eq!((error.row, &*error.column, &*error.value), (3, "b", "x"));
    assert_eq!(records.len(), 2);
}

#[test]
fn every_column_needs_a_home() {
    let refused = |header: &[&str]| format!("{:#}", bound(SENSOR, header).unwrap_err());
    assert_eq!(
        refused(&["id", "t", "v", "unit", "x"]),
        "no place in the mapping for \"unit\", \"x\": map it, or name it in `left_out`"
    );
    assert_eq!(
        refused(&["id", "time", "v"]),
        "the mapping uses column \"t\", which the header does not have; its columns are: id, time, v"
    );
    assert!(refused(&["id", "t", "v", "v"]).contains("\"v\" twice"));
    let all = format!("left_out = [\"*\"]\n{SENSOR}");
    assert!(bound(&all, &["id", "t", "v", "unit"]).is_ok());
}

#[test]
fn a_mapping_that_makes_no_sense_is_refused() {
    let refused = |toml: &str| format!("{:#}", Mapping::parse(toml).unwrap_err());
    assert!(refused(&format!("colour = 1\n{SENSOR}")).contains("unknown field `colour`"));
    assert!(refused("feed = \"f\"\nkey = \"k\"\n").contains("has one of [quote], [trade]"));
    assert!(
        refused("feed = \"F\"\nkey = \"k\"\n[reading]\ncolumn = \"v\"\n")
            .contains("a feed name is")
    );
    assert!(refused("feed = \"f\"\n[reading]\ncolumn = \"v\"\n").contains("needs a key"));
    assert!(refused("feed = \"f\"\nkey = { colunm = \"v\" }\n").contains("unknown field `colunm`"));
    let zone = SENSOR
        .replace("rfc3339", "%F")
        .replace("[reading]", "zone = \"Mars\"\n[reading]");
    let error = format!("{:#}", bound(&zone, &["id", "t", "v"]).unwrap_err());
    assert!(
        error.starts_with("there is no time zone \"Mars\""),
        "{error}"
    );
    let format = SENSOR.replace("rfc3339", "iso");
    let error = format!("{:#}", bound(&format, &["id", "t", "v"]).unwrap_err());
    assert!(error.starts_with("\"iso\" is not a time format"), "{error}");
}

fn timed(time: &str, header: &[&str], row: &[&str]) -> String {
    let toml =
        format!("feed = \"f\"\nkey.constant = \"k\"\n[time]\n{time}\n[reading]\ncolumn = \"v\"\n");
    let header = [header, &["v"]].concat();
    let printed = one(&toml, &header, &[row, &["1"]].concat());
    printed.map_or_else(
        |error| error,
        |line| line.split('"').nth(7).unwrap().to_owned(),
    )
}

/// What stands beside `column`, a text, and the time it is.
const TIMES: [(&str, &str, &str); 12] = [
    // Below a nanosecond: the nearest.
    (
        "format = \"unix_seconds\"",
        "1464183000.0000000006",
        "2016-05-25T13:30:00.000000001Z",
    ),
    (
        "format = \"unix_seconds\"",
        "1464183000.023000001",
        "2016-05-25T13:30:00.023000001Z",
    ),
    (
        "format = \"unix_seconds\"",
        "-0.5",
        "1969-12-31T23:59:59.500000000Z",
    ),
    (
        "format = \"unix_millis\"",
        "1464183000023",
        "2016-05-25T13:30:00.023000000Z",
    ),
    (
        "format = \"unix_micros\"",
        "1464183000023001",
        "2016-05-25T13:30:00.023001000Z",
    ),
    (
        "format = \"unix_nanos\"",
        "-9223372036854775808",
        "1677-09-21T00:12:43.145224192Z",
    ),
    (
        "format = \"seconds\"\nsince = \"2020-01-01T00:00:00Z\"",
        "0.30000000000000004",
        "2020-01-01T00:00:00.300000000Z",
    ),
    (
        "format = \"%Y-%m-%d\"",
        "1962-01-02",
        "1962-01-02T00:00:00.000000000Z",
    ),
    (
        "format = \"%Y-%m-%d\"\nzone = \"+05:30\"",
        "2020-01-02",
        "2020-01-01T18:30:00.000000000Z",
    ),
    (
        "format = \"%d.%m.%Y %H:%M:%S%.f %:z\"",
        "02.01.2020 00:00:00.000000001 +01:00",
        "2020-01-01T23:00:00.000000001Z",
    ),
    // The hour that a clock change repeats is the earlier one; the one it skips moves on.
    (
        "format = \"%F %T\"\nzone = \"America/New_York\"",
        "2020-11-01 01:30:00",
        "2020-11-01T05:30:00.000000000Z",
    ),
    (
        "format = \"%F %T\"\nzone = \"America/New_York\"",
        "2020-03-08 02:30:00",
        "2020-03-08T07:30:00.000000000Z",
    ),
];

#[test]
fn times_in_one_column_are_exact() {
    for (spec, text, time) in TIMES {
        let found = timed(&format!("column = \"t\"\n{spec}"), &["t"], &[text]);
        assert_eq!(found, time, "{spec} {text}");
    }
}

#[test]
fn times_in_several_columns_are_exact() {
    let ymd =
        "year = \"y\"\nmonth = \"m\"\nday = \"d\"\nhour = \"h\"\nminute = \"n\"\nsecond = \"s\"";
    let header = ["y", "m", "d", "h", "n", "s"];
    assert_eq!(
        timed(
            ymd,
            &header,
            &["2016", "2", "29", "23", "59", "59.123456789"]
        ),
        "2016-02-29T23:59:59.123456789Z"
    );
    assert!(timed(ymd, &header, &["2015", "2", "29", "0", "0", "0"]).contains("makes no such day"));
    assert!(
        timed(ymd, &header, &["2015", "2", "28", "24", "0", "0"]).contains("no such time of day")
    );
    let hhmm = "year = \"y\"\nday_of_year = \"d\"\nhhmm = \"t\"";
    let read = |row: &[&str]| timed(hhmm, &["y", "d", "t"], row);
    assert_eq!(
        read(&["2016", "366", "2359"]),
        "2016-12-31T23:59:00.000000000Z"
    );
    assert!(read(&["2015", "366", "0"]).contains("makes no such day"));
    for wrong in ["60", "2400", "12:30", "-1", "65535"] {
        assert!(
            read(&["2016", "1", wrong]).starts_with("row 17, column \"t\""),
            "{wrong}"
        );
    }
}

#[test]
fn quality_missing_and_kinds_can_differ_by_column() {
    let toml = "feed = \"f\"\nkey = { column = \"site\", suffix = \".\" }\nmissing = [\"NA\"]\n\
        [quality]\ngood = [\"G\"]\nbad = [\"B\"]\nother = \"uncertain\"\n\
        [[wide]]\ncolumn = \"a\"\nkey = \"a\"\nkind = \"decimal\"\nquality = \"q\"\nimpossible_above = 50\nimpossible_code = 9\n\
        [[wide]]\ncolumn = \"b\"\nkey = \"b\"\nkind = \"integer\"\nmissing = [\"-1\"]\nwhen_missing = \"leave-out\"\nunit = \"1\"\n\
        [[wide]]\ncolumn = \"c\"\nkey = \"c\"\nkind = \"flag\"\n[[wide]]\ncolumn = \"d\"\nkey = \"d\"\nkind = \"text\"\n";
    let header = ["site", "a", "q", "b", "c", "d"];
    let read = |row: &[&str]| one(toml, &header, row).unwrap();
    assert_eq!(
        read(&["s", "50.10", "7", "-1", "on", "open"]),
        "{\"key\":\"s.a\",\"reading\":{\"decimal\":\"50.10\",\"quality\":\"bad\",\"quality_code\":9}}\n\
         {\"key\":\"s.c\",\"reading\":{\"value\":true}}\n{\"key\":\"s.d\",\"reading\":{\"value\":\"open\"}}"
    );
    assert_eq!(
        read(&["s", "NA", "G", "9007199254740993", "NA", "NA"]),
        "{\"key\":\"s.a\",\"reading\":{\"quality\":\"bad\"}}\n\
         {\"key\":\"s.b\",\"reading\":{\"integer\":\"9007199254740993\"}}\n\
         {\"key\":\"s.c\",\"reading\":{\"quality\":\"bad\"}}\n{\"key\":\"s.d\",\"reading\":{\"quality\":\"bad\"}}"
    );
    let scope = Mapping::parse(toml).unwrap().infos()[1].0.clone();
    assert_eq!(scope, Scope::Glob("*.b".into()));
}

#[test]
fn trades_take_sides_actions_and_conditions() {
    let toml = "feed = \"f\"\nkey.constant = \"k\"\n[trade]\nprice = \"p\"\nsize = { column = \"s\", missing = [\"-\"] }\n\
        side = \"side\"\naction = { column = \"x\", values = { c = \"correct\" } }\n\
        conditions = { column = \"cond\", separator = \" \" }\n";
    let header = ["p", "s", "side", "x", "cond"];
    assert_eq!(
        one(toml, &header, &["-0.10", "-", "buy", "c", "@ T"]).unwrap(),
        r#"{"key":"k","trade":{"price":"-0.10","side":"buy","conditions":["@","T"],"action":"correct"}}"#
    );
    assert!(
        one(toml, &header, &["1", "1", "b", "", ""])
            .unwrap_err()
            .starts_with("row 17, column \"side\": \"b\"")
    );
    let wrong = toml.replace("correct", "amend");
    assert!(
        bound(&wrong, &header)
            .unwrap_err()
            .to_string()
            .contains("not one of new, correct, cancel")
    );
}
