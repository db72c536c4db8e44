//! Files: formats, compression, broken rows, identities.

use std::io::{Cursor, Write as _};

use super::*;

const MAPPING: &str = "feed = \"f\"\nkey = \"id\"\n[reading]\ncolumn = \"v\"\n";

fn mapping() -> Mapping {
    Mapping::parse(MAPPING).unwrap()
}

fn csv(text: &[u8]) -> Source {
    Source::from_reader(Cursor::new(text.to_vec()), None, Some(&mapping())).unwrap()
}

fn drain(source: &mut Source) -> (Vec<u64>, Vec<String>) {
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    while let Some(row) = source.next_row(&mut records).unwrap() {
        rows.push(row);
    }
    (rows, records.into_iter().map(|record| record.key).collect())
}

#[test]
fn a_broken_row_is_counted_and_the_others_go_on() {
    let mut source = csv(b"\xef\xbb\xbfid,v\na,1\nb\nc,1,2\n\xff,1\n\nd,x\n\"e\",2\nf,3");
    let (rows, keys) = drain(&mut source);
    assert_eq!(
        (rows, keys),
        (vec![2, 8, 9], vec!["a".into(), "e".into(), "f".into()])
    );
    let errors: Vec<_> = source
        .broken()
        .first
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(source.broken().count, 4);
    assert_eq!(errors[0], "row 3: has 1 fields where the header has 2");
    assert_eq!(errors[1], "row 4: has 3 fields where the header has 2");
    assert!(
        errors[2].starts_with("row 5: is not UTF-8"),
        "{}",
        errors[2]
    );
    assert!(errors[3].starts_with("row 7, column \"v\": \"x\" is not a finite number"));
}

#[test]
fn only_the_first_errors_are_kept() {
    let mut source = csv(format!("id,v\n{}", "a,x\n".repeat(150)).as_bytes());
    drain(&mut source);
    assert_eq!(
        (source.broken().count, source.broken().first.len()),
        (150, 100)
    );
}

#[test]
fn json_lines_are_told_by_their_first_byte() {
    let long = format!("{{\"key\":\"{}\"}}", "x".repeat(2 << 20));
    let text = format!(
        "\n{{\"key\":\"a\",\"value\":1}}\n{long}\n{{\"key\":\"b\",\"valu\":1}}\n{{\"key\":\"c\",\"value\":2}}"
    );
    let mut source = Source::from_reader(Cursor::new(text.into_bytes()), None, None).unwrap();
    assert_eq!(
        drain(&mut source),
        (vec![2, 5], vec!["a".into(), "c".into()])
    );
    let errors: Vec<_> = source
        .broken()
        .first
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors[0], "row 3: is longer than 1048576 bytes");
    assert!(
        errors[1].starts_with("row 4: exactly one of quote"),
        "{}",
        errors[1]
    );
}

#[test]
fn gzip_is_told_by_its_first_bytes() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"id,v\na,1\n").unwrap();
    let mut bytes = gzip.finish().unwrap();
    let size = bytes.len() as u64;
    let mut source = csv(&bytes);
    assert_eq!(drain(&mut source).1, ["a"]);
    assert_eq!(source.consumed_bytes(), size);
    bytes.truncate(bytes.len() - 9);
    let cut = Source::from_reader(Cursor::new(bytes), Some(InputFormat::Csv), Some(&mapping()));
    let mut records = Vec::new();
    let end = cut.and_then(|mut cut| {
        while cut.next_row(&mut records)?.is_some() {}
        Ok(())
    });
    assert!(end.is_err(), "a cut file must not look complete");
}

#[test]
fn a_grown_file_is_the_same_producer_and_another_is_not() {
    let of = |text: &str, feed: &str| csv(text.as_bytes()).producer(feed);
    let first = of("id,v\na,1\n", "f");
    assert!(first.starts_with("file-") && first.len() == 21, "{first}");
    assert_eq!(of("id,v\na,1\nb,2\n", "f"), first);
    assert_ne!(of("id,v\na,2\n", "f"), first);
    assert_ne!(of("id,v\na,1\n", "g"), first);
    let other = Mapping::parse(&format!("# other\n{MAPPING}")).unwrap();
    let source = Source::from_reader(Cursor::new("id,v\na,1\n"), None, Some(&other)).unwrap();
    assert_ne!(source.producer("f"), first);
}

#[test]
fn a_csv_needs_a_mapping_that_fits() {
    let open = |text: &'static str, mapping: Option<&Mapping>| {
        let source = Source::from_reader(Cursor::new(text), None, mapping);
        source.map_or_else(|error| format!("{error:#}"), |_| "opened".to_owned())
    };
    assert!(open("a,b\n1,2\n", None).contains("--guess"));
    assert_eq!(open("", Some(&mapping())), "the file is empty");
    assert!(open("a,b\n1,2\n", Some(&mapping())).contains("uses column \"id\""));
    assert_eq!(open("id,v\n", Some(&mapping())), "opened");
}

#[test]
fn a_file_without_a_header_has_its_columns_named() {
    let text = format!("{MAPPING}[file]\ncolumns = [\"id\", \"v\"]\ndelimiter = \";\"\n");
    let mapping = Mapping::parse(&text).unwrap();
    let mut source = Source::from_reader(Cursor::new("a;1\nb;2\n"), None, Some(&mapping)).unwrap();
    assert_eq!(
        drain(&mut source),
        (vec![1, 2], vec!["a".into(), "b".into()])
    );
}

#[test]
fn a_mapping_beside_a_file_is_found_by_its_name() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let beside = mapping_beside(&fixtures.join("sensor_imu_100hz.csv.gz"));
    assert_eq!(beside, Some(fixtures.join("sensor_imu_100hz.mapping.toml")));
    assert_eq!(mapping_beside(&fixtures.join("NOTICE.md")), None);
    assert!(Source::open(Path::new("/nowhere.csv"), None, None).is_err());
}
