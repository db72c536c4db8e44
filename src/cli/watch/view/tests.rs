use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;
use crate::{
    cli::watch::{
        keys::Action,
        list::Move,
        samples::{after, begin, caught_up, complete, gap, records, status},
    },
    client::Event,
    model::GapReason,
    proto::v1,
};
use prost::Message as _;

struct Bed {
    terminal: Terminal<TestBackend>,
    view: View,
    watching: Watching,
    now: Tick,
}

impl Bed {
    fn new(width: u16, height: u16) -> Self {
        let now = begin();
        Self {
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
            view: View::new(Colour::On),
            watching: Watching::new("plant".to_owned(), "http://127.0.0.1:50051".to_owned(), now),
            now,
        }
    }

    /// Two sensors and a door, of which one is bad and one does not say anything any more.
    fn usual(width: u16, height: u16) -> Self {
        let mut bed = Self::new(width, height);
        bed.describe("pi17.temp", "Cel", Some(60));
        bed.describe("pi18.temp", "Cel", Some(2));
        let values = [
            ("pi17.temp", 21.5),
            ("pi18.temp", 19.25),
            ("pi17.temp", 21.75),
            ("pi17.temp", 21.25),
        ];
        bed.hear(records(990, &values));
        let batch = v1::SnapshotBatch {
            records: vec![
                status("door", "open", 994, crate::cli::watch::samples::second(999))
                    .encode_to_vec()
                    .into(),
            ],
            ..v1::SnapshotBatch::default()
        };
        bed.hear(Event::Snapshot { selector: 0, batch });
        bed.hear(complete());
        bed.hear(caught_up());
        bed
    }

    fn describe(&mut self, key: &str, unit: &str, seconds: Option<i64>) {
        let expected = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        self.hear(Event::KeyInfo(v1::KeyInfoUpdate {
            feed: "plant".to_owned(),
            key: key.to_owned(),
            info: Some(v1::KeyInfo {
                unit: Some(unit.to_owned()),
                expected_interval: expected,
                ..v1::KeyInfo::default()
            }),
        }));
    }

    fn hear(&mut self, event: Event) {
        self.watching.hear(event, self.now).unwrap();
    }

    fn pass(&mut self, millis: u64) {
        self.now = after(self.now, millis);
    }

    /// The lines of the screen, without what is empty at their ends.
    fn lines(&mut self) -> Vec<String> {
        let (view, watching, now) = (&mut self.view, &mut self.watching, self.now);
        let drawn = self.terminal.draw(|frame| view.draw(frame, watching, now));
        let buffer = drawn.unwrap().buffer.clone();
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width);
        let line = |cells: &[ratatui::buffer::Cell]| {
            let mut text = String::new();
            let mut cells = cells.iter();
            while let Some(cell) = cells.next() {
                text.push_str(cell.symbol());
                // A wide one lies over its neighbour.
                let covered = console::measure_text_width(cell.symbol()).saturating_sub(1);
                cells.by_ref().take(covered).for_each(drop);
            }
            text.trim_end().to_owned()
        };
        rows.map(line).collect()
    }

    fn colour_of(&self, text: &str) -> Vec<Color> {
        let buffer = self.terminal.backend().buffer();
        let symbols: Vec<_> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        let wanted: Vec<_> = text.chars().map(String::from).collect();
        let at = symbols
            .windows(wanted.len())
            .position(|found| found == wanted);
        let at = at.unwrap_or_else(|| panic!("{text} is not on the screen"));
        let cells = buffer.content[at..at + wanted.len()].iter();
        cells.map(|cell| cell.fg).collect()
    }
}

#[test]
fn a_terminal_of_eighty_columns_shows_all_of_it() {
    let mut bed = Bed::usual(80, 14);
    let expected = [
        "plant  http://127.0.0.1:50051                                             ● live",
        "3 rows · 4.00/s · 4.00/s shown · no gaps",
        "",
        "KEY↑       KIND        VALUE  UNIT    CHANGE  TREND                STATE     AGE",
        "door       status       open                                                  1s",
        "pi17.temp  reading     21.25  Cel     ▼-0.25  ▅█▁                             7s",
        "pi18.temp  reading     19.25  Cel                                  stale      9s",
    ];
    let lines = bed.lines();
    assert_eq!(lines[..7], expected);
    let details = "door · status open · 1970-01-01T00:16:39.000000000Z · offset 994";
    let foot = "? help · q quit · p pause · / filter · s sort · r reverse               1–3 of 3";
    assert_eq!(lines[7..], ["", "", "", "", "", details, foot]);
    assert_eq!(bed.colour_of("▼-0.25"), [Color::Red; 6]);
    assert_eq!(bed.colour_of("● live"), [Color::Green; 6]);
}

#[test]
fn without_colours_everything_is_still_said() {
    let mut coloured = Bed::usual(80, 14);
    let mut plain = Bed::usual(80, 14);
    plain.view = View::new(Colour::Off);
    assert_eq!(coloured.lines(), plain.lines());
    assert_eq!(plain.colour_of("▼-0.25"), [Color::Reset; 6]);
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    let mut bed = Bed::usual(40, 8);
    let lines = bed.lines();
    let expected = [
        "plant  http://127.0.0.1:50051     ● live",
        "3 rows · 4.00/s · 4.00/s shown · no gaps",
        "KEY↑         VALUE   CHANGE STATE    AGE",
        "door          open                    1s",
        "pi17.temp    21.25   ▼-0.25           7s",
        "pi18.temp    19.25          stale     9s",
        "",
        "? help · q quit · p pause       1–3 of 3",
    ];
    assert_eq!(lines, expected);
    for (width, height) in [(20, 4), (9, 3), (3, 2), (1, 1), (200, 1)] {
        let mut bed = Bed::usual(width, height);
        assert_eq!(bed.lines().len(), usize::from(height), "{width}x{height}");
    }
}

#[test]
fn of_many_keys_those_on_the_screen_are_drawn() {
    let mut bed = Bed::new(80, 24);
    let names: Vec<_> = (0..2_500).map(|n| format!("key{n:05}")).collect();
    let values: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    bed.hear(records(0, &values));
    let lines = bed.lines();
    assert!(lines[1].starts_with("2,500 rows"), "{}", lines[1]);
    let keys = |lines: &[String]| {
        let rows = lines.iter().filter(|line| line.starts_with("key"));
        let names: Vec<_> = rows.map(|line| line[..8].to_owned()).collect();
        (names[0].clone(), names.len())
    };
    assert_eq!(keys(&lines[4..22]), ("key00000".to_owned(), 18));
    assert!(lines[23].ends_with("1–18 of 2,500"), "{}", lines[23]);
    bed.watching.act(Action::Scroll(Move::End), bed.now);
    let lines = bed.lines();
    assert_eq!(keys(&lines[4..22]), ("key02482".to_owned(), 18));
    assert!(lines[22].starts_with("key02499 · reading 1"));
}

#[test]
fn a_pause_is_said_with_what_came_meanwhile() {
    let mut bed = Bed::usual(80, 14);
    bed.watching.act(Action::Pause, bed.now);
    bed.pass(12_000);
    bed.hear(records(994, &[("pi17.temp", 30.0), ("new", 1.0)]));
    let lines = bed.lines();
    assert!(lines[0].ends_with("‖ PAUSED  ● live"), "{}", lines[0]);
    let notice = "paused for 12 s: 2 records came meanwhile; p goes on";
    assert_eq!(lines[2], notice);
    assert!(lines[5].contains("21.25"), "{}", lines[5]);
    assert!(lines[5].ends_with("7s"), "ages hold, too: {}", lines[5]);
    bed.watching.act(Action::Pause, bed.now);
    let lines = bed.lines();
    assert_eq!(lines[2], "");
    assert!(
        lines[6].contains("30") && lines[5].starts_with("new"),
        "{lines:?}"
    );

    let mut small = Bed::usual(40, 8);
    small.watching.act(Action::Pause, small.now);
    let lines = small.lines();
    assert_eq!(lines[1], "paused for 0 ms: 0 records came meanwhi…");
}

#[test]
fn a_lost_connection_is_said_with_how_long_and_why() {
    let mut bed = Bed::usual(80, 14);
    let gone = |millis| Event::Disconnected {
        reason: "connection \u{1b}[2J refused".to_owned(),
        delay: Duration::from_millis(millis),
    };
    bed.hear(gone(0));
    bed.pass(12_000);
    bed.hear(gone(2_000));
    let lines = bed.lines();
    assert!(lines[0].ends_with("○ reconnecting"), "{}", lines[0]);
    let notice = "no connection for 12 s, again in 2.0 s: connection \\u{1b}[2J refused";
    assert_eq!(lines[2], notice);
    assert!(lines[5].contains("21.25"), "what is known stays");
    bed.pass(2_500);
    assert!(bed.lines()[2].starts_with("no connection for 14 s, trying: "));
    bed.hear(caught_up());
    let lines = bed.lines();
    assert!(lines[0].ends_with("● live"));
    assert!(lines[1].contains("reconnected 1×"), "{}", lines[1]);
    assert_eq!(lines[2], "");
}

#[test]
fn a_gap_is_counted_and_its_reason_told() {
    let mut bed = Bed::usual(80, 14);
    bed.hear(gap(GapReason::Evicted));
    bed.hear(gap(GapReason::Lost));
    let lines = bed.lines();
    assert!(
        lines[1].contains("gaps 2 (8 missed, last lost)"),
        "{}",
        lines[1]
    );
    let notice = "gap in f: offsets 5..9 were lost in an unclean stop of the server; going on at 9";
    assert_eq!(lines[2], notice);
    assert_eq!(bed.colour_of("gaps 2"), [Color::Red; 6]);
    let mut small = Bed::usual(40, 8);
    small.hear(gap(GapReason::Lost));
    assert!(small.lines()[1].contains("gaps 1 (4 missed, last lost)"));
}

#[test]
fn lag_ring_and_near_eviction_come_of_heartbeats() {
    let mut bed = Bed::usual(100, 14);
    let cursor = |offset| {
        Some(v1::Cursor {
            feed: "plant".to_owned(),
            epoch: 1,
            offset,
        })
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let heartbeat = v1::Heartbeat {
        oldest: cursor(1_000),
        next: cursor(12_000),
        cursor: cursor(2_000),
        lag_records: 10_000,
        lag: seconds(90),
        eviction_eta: seconds(59),
        ..v1::Heartbeat::default()
    };
    bed.hear(Event::Heartbeat {
        selector: 0,
        heartbeat,
    });
    let figures =
        "3 rows · 4.00/s · lag 10,000 (1 m 30 s) · no gaps · eviction in 59 s · ring 1,000..12,000";
    assert_eq!(bed.lines()[1], figures);
}

#[test]
fn hostile_names_and_texts_move_nothing() {
    let hostile = [
        "a\u{1b}[2Jb",
        "a\u{202e}rtl",
        "a\u{9b}31mred",
        "a\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
        "a湿度センサー湿度センサー湿度センサー",
        "a👍\u{1f3fd}☁\u{fe0f}",
        "a\nb\tc\r",
        "a\u{61c}\u{2066}\u{200b}",
    ];
    for text in hostile {
        let mut bed = Bed::new(80, 14);
        let values = [(text, 5.5), ("b", 4.0), (text, 7.5)];
        bed.hear(records(0, &values));
        let batch = v1::SnapshotBatch {
            records: vec![status("c", text, 9, 0).encode_to_vec().into()],
            ..v1::SnapshotBatch::default()
        };
        bed.hear(Event::Snapshot { selector: 0, batch });
        bed.watching.feed = text.to_owned();
        let lines = bed.lines();
        let all = lines.concat();
        assert!(!all.chars().any(char::is_control), "{text:?}");
        let columns = |line: &str| {
            let end = line.find(" ▲+2.0").or_else(|| line.find("CHANGE")).unwrap();
            console::measure_text_width(&line[..end])
        };
        let found = lines.iter().find(|line| line.contains("▲+2.0"));
        let row = found.unwrap_or_else(|| panic!("{lines:#?}"));
        assert_eq!(columns(row), columns(&lines[3]), "{lines:#?}");
        assert!(row.contains("7.5"));
    }
}

#[test]
fn a_filter_is_seen_while_it_is_typed_and_afterwards() {
    let mut bed = Bed::usual(80, 14);
    bed.watching.act(Action::BeginFilter, bed.now);
    for c in "temp".chars() {
        bed.watching.act(Action::Type(c), bed.now);
    }
    let lines = bed.lines();
    assert!(lines[1].starts_with("2 of 3 rows"), "{}", lines[1]);
    assert_eq!(lines[13], "/temp▏   Enter keeps it, Esc takes it back");
    bed.watching.act(Action::KeepFilter, bed.now);
    assert!(bed.lines()[13].starts_with("/temp · ? help"));
}

#[test]
fn help_lies_over_the_rest_and_fits() {
    for (width, height) in [(80, 24), (40, 8), (10, 2)] {
        let mut bed = Bed::usual(width, height);
        bed.watching.act(Action::Help, bed.now);
        let lines = bed.lines();
        assert_eq!(lines.len(), usize::from(height));
        if height > 8 {
            let all = lines.concat();
            assert!(all.contains("q, Esc, Ctrl-C   quit") && all.contains("any key"));
        }
    }
}

#[test]
fn columns_do_not_move_as_digits_come_and_go() {
    let mut bed = Bed::usual(80, 14);
    bed.hear(records(1_000, &[("pi17.temp", 1_234_567.125)]));
    let wide = bed.lines();
    bed.hear(records(1_001, &[("pi17.temp", 1.0)]));
    let narrow = bed.lines();
    assert_eq!(wide[3], narrow[3], "the names of the columns stay");
}
