//! What people and programs see, to the byte; and that a printed copy equals the original.

use std::io::{self, Cursor};

use super::*;
use crate::{
    cli::mapping::Source,
    proto::v1::{Quality, reading::Value as Measured, record::Payload},
};

const PAPER: Paper = Paper {
    colour: Colour::Off,
    cut: Cut::To(80),
};
const NOW: UnixNanos = 1_464_183_003_023_000_000;

fn decimal(text: &str) -> Option<v1::Decimal> {
    crate::proto::convert::parse_decimal(text).ok()
}

fn record(key: &str, payload: Payload) -> v1::Record {
    v1::Record {
        key: key.to_owned(),
        event_time_unix_nanos: Some(1_464_183_000_023_000_001),
        payload: Some(payload),
        offset: 812,
        ingest_time_unix_nanos: NOW,
        ..v1::Record::default()
    }
}

fn reading(value: impl Into<Option<Measured>>, quality: Quality) -> Payload {
    Payload::Reading(v1::Reading {
        value: value.into(),
        quality: quality.into(),
        quality_code: None,
    })
}

fn quote() -> Payload {
    let (bid, ask) = (decimal("720.50"), decimal("720.93"));
    Payload::Quote(v1::Quote {
        bid,
        ask,
        ..v1::Quote::default()
    })
}

fn bar() -> Payload {
    Payload::Bar(v1::Bar {
        start_unix_nanos: Some(-1),
        interval_nanos: Some(86_400_000_000_000),
        open: decimal("118.56"),
        high: decimal("132.06"),
        low: decimal("118.5"),
        close: decimal("130.31"),
        volume: decimal("9616100"),
        count: Some(u64::MAX),
        ..v1::Bar::default()
    })
}

fn trade() -> Payload {
    Payload::Trade(v1::Trade {
        price: decimal("51.9500"),
        size: decimal("75"),
        trade_id: "t,\"1\"".into(),
        conditions: vec!["@".into(), "a,b\n".into()],
        ..v1::Trade::default()
    })
}

fn status(reason: &str) -> Payload {
    Payload::Status(v1::Status {
        state: "halted".into(),
        reason: reason.into(),
    })
}

fn all_kinds() -> Vec<v1::Record> {
    let vector = v1::Vector {
        values: vec![0.1, -0.0, 5e-324],
    };
    let values = [
        Measured::Number(-0.0),
        Measured::Number(1e300),
        Measured::Decimal(decimal("21.50").unwrap()),
        Measured::Integer(i64::MIN),
        Measured::Flag(false),
        Measured::Text(String::new()),
        Measured::Text(" padded, \"quoted\"\r\n".into()),
        Measured::Text("7".into()),
        Measured::Vector(vector),
    ];
    let readings = values
        .into_iter()
        .map(|value| reading(value, Quality::Uncertain));
    let others = [
        quote(),
        bar(),
        trade(),
        status("news"),
        reading(None, Quality::Bad),
    ];
    readings
        .chain(others)
        .map(|payload| record("k", payload))
        .collect()
}

fn print(format: Format, records: &[v1::Record]) -> String {
    let mut printer = Printer::new(format, PAPER, Vec::new());
    for record in records {
        let entry = Entry {
            feed: "f",
            epoch: 7,
            record,
            info: None,
        };
        printer.record(&entry, NOW).unwrap();
    }
    String::from_utf8(printer.into_inner()).unwrap()
}

#[test]
fn a_copy_by_csv_or_jsonl_equals_the_original() {
    let originals = all_kinds();
    for format in [Format::Csv, Format::Jsonl] {
        let text = print(format, &originals);
        let mut source = Source::from_reader(Cursor::new(text), None, None).unwrap();
        let mut copies = Vec::new();
        while source.next_row(&mut copies).unwrap().is_some() {}
        assert_eq!(source.broken().first, []);
        for copy in &mut copies {
            copy.offset = 812;
            copy.ingest_time_unix_nanos = NOW;
        }
        // Debug text tells -0.0 from 0.0.
        assert_eq!(
            format!("{copies:?}"),
            format!("{originals:?}"),
            "{format:?}"
        );
    }
}

#[test]
fn csv_rows_are_stable() {
    let text = print(Format::Csv, &[record("AAPL", quote())]);
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), flat::HEADER.join(","));
    assert_eq!(
        lines.next().unwrap(),
        "f,7,812,2016-05-25T13:30:00.023000001Z,2016-05-25T13:30:03.023000000Z,AAPL,quote,,,,720.50,720.93,,,,,,,,,,,,,,,,,,,,,,,,"
    );
}

#[test]
fn a_broken_flat_row_names_its_column() {
    let good = print(Format::Csv, &[record("AAPL", quote())]);
    let broken = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        let mut source = Source::from_reader(Cursor::new(text), None, None).unwrap();
        while source.next_row(&mut Vec::new()).unwrap().is_some() {}
        source.broken().first[0].to_string()
    };
    assert_eq!(
        broken("720.50", "x"),
        "row 2, column \"bid\": \"x\" is not a decimal number"
    );
    assert!(
        broken("AAPL,quote", "AAPL,quota")
            .starts_with("row 2, column \"kind\": \"quota\" is none of")
    );
    assert!(
        broken("2016-05-25T13:30:00.023000001Z", "noon")
            .starts_with("row 2, column \"event_time\": \"noon\" is not a time")
    );
}

#[test]
fn json_lines_name_feed_epoch_and_offset() {
    assert_eq!(
        print(Format::Jsonl, &[record("AAPL", quote())]),
        "{\"key\":\"AAPL\",\"time\":\"2016-05-25T13:30:00.023000001Z\",\"quote\":{\"bid\":\"720.50\",\"ask\":\"720.93\"},\
         \"offset\":\"812\",\"ingest_time\":\"2016-05-25T13:30:03.023000000Z\",\"feed\":\"f\",\"epoch\":\"7\"}\n"
    );
}

#[test]
fn values_in_a_few_words() {
    let celsius = v1::KeyInfo {
        unit: Some("Cel".into()),
        ..v1::KeyInfo::default()
    };
    let rounded = v1::KeyInfo {
        display_decimals: Some(1),
        ..celsius.clone()
    };
    let summary = |payload, info| value_summary(&record("k", payload), info);
    assert_eq!(summary(quote(), None), "720.50 / 720.93");
    assert_eq!(
        summary(
            Payload::Quote(v1::Quote {
                ask: decimal("1"),
                ..v1::Quote::default()
            }),
            None
        ),
        "– / 1"
    );
    assert_eq!(summary(trade(), None), "51.9500 × 75");
    assert_eq!(summary(bar(), None), "118.56 132.06 118.5 130.31 9616100");
    assert_eq!(
        summary(
            reading(Measured::Number(16.1), Quality::Good),
            Some(&celsius)
        ),
        "16.1 Cel"
    );
    assert_eq!(
        summary(
            reading(Measured::Number(16.16), Quality::Good),
            Some(&rounded)
        ),
        "16.2 Cel"
    );
    assert_eq!(
        summary(reading(None, Quality::Bad), Some(&celsius)),
        "– (bad)"
    );
    assert_eq!(
        summary(
            reading(Measured::Number(-373.4), Quality::Bad),
            Some(&celsius)
        ),
        "-373.4 Cel (bad)"
    );
    assert_eq!(
        summary(reading(Measured::Number(1e300), Quality::Good), None),
        "1e300"
    );
    assert_eq!(summary(status("news"), None), "halted: news");
}

#[test]
fn the_table_fits_eighty_columns() {
    let records = [
        record("GOOG", quote()),
        record(
            "alamosa.air_temp.and.more",
            reading(Measured::Number(16.1), Quality::Uncertain),
        ),
        record("株価株価株価株価株価株価", bar()),
        record("bms.chp1", reading(None, Quality::Bad)),
    ];
    let table = print(Format::Table, &records);
    let expected = "\
TIME (UTC)   KEY                  KIND    VALUE                          AGE Q
-- 2016-05-25
13:30:00.023 GOOG                 quote   720.50 / 720.93                 2s
13:30:00.023 alamosa.air_temp.an… reading 16.1                            2s unc
13:30:00.023 株価株価株価株価株…  bar     118.56 132.06 118.5 130.31 …    2s
13:30:00.023 bms.chp1             reading –                               2s bad
";
    assert_eq!(table, expected);
    assert!(
        table
            .lines()
            .all(|line| console::measure_text_width(line) <= 80)
    );
}

#[test]
fn the_table_is_as_wide_as_the_terminal_and_whole_in_a_pipe() {
    let key = "alamosa.a_rather_long_name_of_a_sensor";
    let long = record(key, bar());
    let print = |cut| {
        let mut printer = Printer::new(Format::Table, Paper { cut, ..PAPER }, Vec::new());
        let entry = Entry {
            feed: "f",
            epoch: 1,
            record: &long,
            info: None,
        };
        printer.record(&entry, NOW).unwrap();
        String::from_utf8(printer.into_inner()).unwrap()
    };
    for width in [53, 60, 80, 100, 200] {
        let table = print(Cut::To(width));
        let longest = table.lines().map(console::measure_text_width).max();
        assert!(longest.unwrap() <= width, "{table}");
    }
    let whole = value_summary(&long, None);
    for table in [print(Cut::To(140)), print(Cut::Never)] {
        assert!(table.contains(key) && table.contains(&whole), "{table}");
    }
    assert!(!print(Cut::Never).contains('…'));
}

#[test]
fn the_header_comes_back_every_screenful() {
    let records = vec![record("k", quote()); 81];
    assert_eq!(
        print(Format::Table, &records).matches("TIME (UTC)").count(),
        3
    );
}

#[test]
fn nothing_in_a_record_drives_the_terminal() {
    let hostile = "\u{1b}]0;x\u{7}\u{202e}\r\n\u{9b}2J";
    let text = print(
        Format::Table,
        &[
            record(hostile, status(hostile)),
            record("k", reading(Measured::Text(hostile.into()), Quality::Good)),
        ],
    );
    assert!(
        !text
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{text:?}"
    );
    assert!(text.contains(r"\u{1b}]0;x\u{7}"), "{text}");
    let mut printer = Printer::new(Format::Table, PAPER, Vec::new());
    printer.note("gap \u{1b}[2J").unwrap();
    assert_eq!(printer.into_inner(), b"-- gap \\u{1b}[2J\n");
}

#[test]
fn colour_is_only_where_it_is_asked_for() {
    let bad = record("k", reading(None, Quality::Bad));
    let mut printer = Printer::new(
        Format::Table,
        Paper {
            colour: Colour::On,
            ..PAPER
        },
        Vec::new(),
    );
    let entry = Entry {
        feed: "f",
        epoch: 1,
        record: &bad,
        info: None,
    };
    printer.record(&entry, NOW).unwrap();
    assert!(
        String::from_utf8(printer.into_inner())
            .unwrap()
            .contains("\u{1b}[31m")
    );
    assert!(!print(Format::Table, &[bad]).contains('\u{1b}'));
}

fn view_bar(key: &str) -> v1::ViewBar {
    v1::ViewBar {
        key: key.to_owned(),
        complete: true,
        ..v1::ViewBar::default()
    }
}

fn price_bar() -> v1::ViewBar {
    let Payload::Bar(bar) = bar() else {
        unreachable!()
    };
    v1::ViewBar {
        bar: Some(v1::Bar {
            start_unix_nanos: Some(1_464_183_000_000_000_000),
            interval_nanos: Some(60_000_000_000),
            ..bar
        }),
        source: v1::BarSource::Trade.into(),
        revision: 2,
        ..view_bar("AAPL")
    }
}

fn reading_bar() -> v1::ViewBar {
    v1::ViewBar {
        reading: Some(v1::ReadingBar {
            start_unix_nanos: 1_464_183_000_000_000_000,
            interval_nanos: 60_000_000_000,
            min: Some(16.1),
            max: Some(17.0),
            mean: Some(16.620_000_1),
            last: Some(16.8),
            count: 12,
            bad_count: 1,
            channel: Some(3),
            exact: Some(v1::ExactReadings {
                min: decimal("16.10"),
                ..v1::ExactReadings::default()
            }),
        }),
        source: v1::BarSource::Reading.into(),
        complete: false,
        ..view_bar("pi17.temp")
    }
}

fn print_bars(format: Format, bars: &[v1::ViewBar]) -> io::Result<String> {
    let mut printer = Printer::new(format, PAPER, Vec::new());
    for bar in bars {
        let entry = BarEntry {
            feed: "f",
            epoch: 7,
            bar,
        };
        printer.bar(&entry, NOW + 60_000_000_000)?;
    }
    Ok(String::from_utf8(printer.into_inner()).unwrap())
}

#[test]
fn a_bar_of_prices_can_be_ingested_again() {
    for format in [Format::Csv, Format::Jsonl] {
        let text = print_bars(format, &[price_bar()]).unwrap();
        let mut source = Source::from_reader(Cursor::new(text), None, None).unwrap();
        let mut copies = Vec::new();
        while source.next_row(&mut copies).unwrap().is_some() {}
        assert_eq!(source.broken().first, []);
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].key, "AAPL");
        let start = Some(1_464_183_000_000_000_000);
        assert_eq!(copies[0].event_time_unix_nanos, start);
        let bar = price_bar().bar.map(Payload::Bar);
        assert_eq!(copies[0].payload, bar, "{format:?}");
    }
}

#[test]
fn bars_of_readings_have_fields_of_their_own() {
    let bars = [reading_bar()];
    assert_eq!(
        print_bars(Format::Jsonl, &bars).unwrap(),
        "{\"key\":\"pi17.temp\",\"reading_bar\":{\"start\":\"2016-05-25T13:30:00.000000000Z\",\"interval_nanos\":\"60000000000\",\
         \"channel\":3,\"min\":\"16.10\",\"max\":17.0,\"mean\":16.6200001,\"last\":16.8,\"count\":\"12\",\"bad_count\":\"1\"},\
         \"feed\":\"f\",\"epoch\":\"7\",\"view\":{\"source\":\"reading\",\"revision\":0,\"complete\":false,\"late_count\":\"0\",\"partial\":false}}\n"
    );
    assert_eq!(
        print_bars(Format::Csv, &bars).unwrap(),
        "feed,epoch,key,channel,start,interval_nanos,min,max,mean,last,count,bad_count,revision,complete,late_count,partial\n\
         f,7,pi17.temp,3,2016-05-25T13:30:00.000000000Z,60000000000,16.10,17.0,16.6200001,16.8,12,1,0,false,0,false\n"
    );
    let line = print_bars(Format::Jsonl, &bars).unwrap();
    assert!(crate::proto::json::parse_line(&line).is_err(), "no record");
}

#[test]
fn one_csv_has_one_header() {
    let mixed = [price_bar(), reading_bar()];
    let error = print_bars(Format::Csv, &mixed).unwrap_err();
    assert!(error.to_string().contains("--format jsonl"), "{error}");
    assert_eq!(
        print_bars(Format::Jsonl, &mixed).unwrap().lines().count(),
        2
    );
}

#[test]
fn bars_in_a_table_say_what_they_are_made_of() {
    let partial = v1::ViewBar {
        partial: true,
        ..price_bar()
    };
    let table = print_bars(Format::Table, &[price_bar(), reading_bar(), partial]).unwrap();
    let expected = "\
TIME (UTC)   KEY            KIND    VALUE                                AGE Q
-- 2016-05-25
13:30:00.000 AAPL           trade   118.56 132.06 118.5 130.31 9616100    3s r2
13:30:00.000 pi17.temp[3]   reading 16.10–17.0, mean 16.62, 1 bad       open
13:30:00.000 AAPL           trade   118.56 132.06 118.5 130.31 9616100    3s prt
";
    assert_eq!(table, expected);
}

#[test]
fn of_several_numbers_none_is_shown_in_part() {
    let mut long = price_bar();
    if let Some(bar) = &mut long.bar {
        bar.high = decimal("132.061234");
        bar.volume = decimal("9616100000");
    }
    let table = print_bars(Format::Table, &[long]).unwrap();
    assert!(
        table.contains("118.56 132.061234 118.5 130.31 … "),
        "{table}"
    );
}
