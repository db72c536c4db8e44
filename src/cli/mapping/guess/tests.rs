//! The proposals for the real recordings fit them, every row of them.

use super::{
    super::{Mapping, Source, tests::recording},
    *,
};

/// Rows, records and the proposal for a recording.
fn tried(name: &str) -> Option<(usize, usize, String)> {
    let path = recording(name)?;
    let text = guess_file(&path).unwrap();
    let mapping = Mapping::parse(&text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let mut source = Source::open(&path, None, Some(&mapping))
        .unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let (mut rows, mut records) = (0, Vec::new());
    while source.next_row(&mut records).unwrap().is_some() {
        rows += 1;
    }
    assert_eq!(source.broken().first, [], "{text}");
    Some((rows, records.len(), text))
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
}

#[test]
fn stock_files_become_bars_trades_and_quotes() {
    let (rows, records, text) = tried("market_us_stocks_daily.csv").unwrap();
    assert_eq!((rows, records), (12_154, 12_154));
    assert_lines(
        &text,
        &[
            "key = \"Ticker\"",
            "format = \"%Y-%m-%d\"",
            "[bar]",
            "interval = \"1d\"",
            "adjusted_close = \"Adj Close\"",
        ],
    );
    let (rows, records, text) = tried("market_us_stock_ticks_trades.csv").unwrap();
    assert_eq!((rows, records), (77, 77));
    assert_lines(
        &text,
        &[
            "format = \"%Y%m%d %H:%M:%S%.f\"",
            "[trade]",
            "venue = \"marketCenter\"",
        ],
    );
    let (rows, records, text) = tried("market_us_stock_ticks_quotes.csv").unwrap();
    assert_eq!((rows, records), (56, 56));
    assert_lines(&text, &["[quote]", "bid = \"bid\"", "key = \"ticker\""]);
}

#[test]
fn station_files_become_wide_readings() {
    let (rows, records, text) = tried("sensor_surfrad_alamosa_20160101.csv").unwrap();
    assert_eq!((rows, records), (1440, 1440 * 22));
    assert_lines(
        &text,
        &[
            "missing = [\"\", \"-9999.9\"]",
            "quality = \"qc_air_temp\"",
            "uncertain = [2]",
            "month = \"month\"",
            "\"day_of_year\", # the same day",
        ],
    );
    let (rows, records, text) = tried("sensor_midc_bms_20181018.csv").unwrap();
    assert_eq!((rows, records), (1440, 1440 * 15));
    assert_lines(
        &text,
        &[
            "\"-7999.0\"",
            "hhmm = \"MST\"",
            "day_of_year = \"DOY\"",
            "\"Unnamed: 0\", # a row index",
            "key = \"air_temperature\"\nunit = \"Cel\"",
            "unit = \"W/m2\"",
        ],
    );
}

#[test]
fn the_other_recordings_are_understood_too() {
    if let Some((rows, records, text)) = tried("market_crypto_trades.csv.gz") {
        assert_eq!((rows, records), (19_881, 19_881));
        assert_lines(
            &text,
            &[
                "column = \"recv_ts_ns\"\nformat = \"unix_nanos\"",
                "[source_time]\ncolumn = \"event_ts_ms\"",
                "\"trade_ts_ms\", # another time",
                "\"true\" = \"sell\"",
            ],
        );
    }
    if let Some((rows, records, text)) = tried("market_crypto_quotes.csv.gz") {
        assert_eq!((rows, records), (87_065, 87_065));
        assert_lines(
            &text,
            &[
                "bid_size = \"bid_qty\"",
                "source_sequence = \"update_id\"",
                "missing = [\"\"]",
            ],
        );
    }
    if let Some((rows, records, text)) = tried("sensor_nab_irregular.csv.gz") {
        assert_eq!((rows, records), (45_626, 45_626));
        assert_lines(
            &text,
            &["key = \"sensor\"", "[reading]\ncolumn = \"value\""],
        );
    }
    if let Some((rows, records, text)) = tried("sensor_imu_100hz.csv.gz") {
        assert_eq!((rows, records), (13_514, 13_514 * 9));
        assert_lines(
            &text,
            &[
                "format = \"seconds\"",
                "key = \"gyroscope_x\"\nunit = \"deg/s\"",
                "unit = \"[g]\"",
            ],
        );
    }
}

fn proposed(csv: &str) -> String {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let text = guess("some.feed", &header, &rows);
    let bound = Mapping::parse(&text).and_then(|mapping| mapping.bind(&header));
    let bound = bound.unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let mut records = Vec::new();
    rows.iter()
        .for_each(|row| bound.records(2, row, &mut records).unwrap());
    text
}

#[test]
fn proposals_fit_awkward_headers() {
    let text = proposed(
        "time,Temp [K],temp,\"a \"\"b\"\"\",state\n2020-01-01T00:00:00Z,1,2,NA,on\n2020-01-01T00:00:01Z,2,2.5,3,off\n",
    );
    assert_lines(
        &text,
        &[
            "format = \"rfc3339\"",
            "key = \"temp\"",
            "key = \"temp_2\"",
            "\"NA\"",
        ],
    );
    proposed("a,b\n1,x\n2,y\n");
    proposed("ts,price,size,side\n1464183000,1.5,2,B\n1464183001,1.5,2,S\n");
    proposed("timestamp,open,high,low,close\n1464183000000,1,2,1,2\n");
    assert_lines(
        &proposed("id,v,v_qc\ns1,1,A\ns2,2,B\n"),
        &["# Codes seen: A, B", "quality = \"v_qc\""],
    );
}
