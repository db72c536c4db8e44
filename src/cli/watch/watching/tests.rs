use std::time::Duration;

use super::*;
use crate::cli::watch::{
    list::{Column, Move},
    samples::{after, begin, caught_up, complete, gap, records, watching},
};

/// Keys and values, as they stand on the screen.
fn shown(watching: &Watching) -> Vec<(String, f64)> {
    let rows = watching.board().rows();
    let visible = watching.list.visible().map(|(_, at)| &rows[at]);
    let shown = visible.map(|row| (row.key().to_owned(), row.number().unwrap()));
    shown.collect()
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    let pairs = expected.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), *value))
        .collect()
}

#[test]
fn a_pause_holds_the_screen_and_shows_what_came_when_it_ends() {
    let tick = begin();
    let mut watching = watching(tick);
    watching
        .hear(records(0, &[("a", 1.0), ("b", 2.0)]), tick)
        .unwrap();
    watching.act(Action::Pause, tick);
    let later = after(tick, 2_000);
    watching
        .hear(records(2, &[("a", 5.0), ("c", 3.0)]), later)
        .unwrap();
    watching.arrange(10, later);
    assert_eq!(shown(&watching), pairs(&[("a", 1.0), ("b", 2.0)]));
    assert_eq!(watching.came_meanwhile(), 2);
    assert_eq!(
        watching.time_of_board(later).unix,
        tick.unix,
        "ages hold too"
    );
    watching.act(Action::NextColumn, later);
    watching.arrange(10, later);
    assert_eq!(shown(&watching), pairs(&[("b", 2.0), ("a", 1.0)]));
    watching.act(Action::Pause, later);
    watching.arrange(10, later);
    assert_eq!(
        shown(&watching),
        pairs(&[("a", 5.0), ("c", 3.0), ("b", 2.0)])
    );
    assert_eq!(watching.came_meanwhile(), 0);
}

#[test]
fn the_connection_goes_and_comes_back() {
    let tick = begin();
    let mut watching = watching(tick);
    assert_eq!(watching.link.phase, Phase::Connecting);
    watching.hear(complete(), tick).unwrap();
    assert_eq!(watching.link.phase, Phase::CatchingUp);
    watching.hear(caught_up(), tick).unwrap();
    assert_eq!(watching.link.phase, Phase::Live);
    let gone = Event::Disconnected {
        reason: "gone".to_owned(),
        delay: Duration::from_secs(1),
    };
    watching.hear(gone, tick).unwrap();
    assert!(matches!(watching.link.phase, Phase::Reconnecting { .. }));
    watching.hear(gap(GapReason::Lost), tick).unwrap();
    assert_eq!(watching.link.phase, Phase::CatchingUp);
    watching.hear(caught_up(), tick).unwrap();
    assert_eq!(watching.link.phase, Phase::Live);
    assert_eq!(
        (watching.link.reconnects, watching.link.gaps.offsets),
        (1, 4)
    );
}

#[test]
fn a_feed_that_began_anew_has_other_keys() {
    let tick = begin();
    let mut watching = watching(tick);
    watching.hear(records(0, &[("a", 1.0)]), tick).unwrap();
    watching.hear(gap(GapReason::Evicted), tick).unwrap();
    watching.arrange(10, tick);
    assert_eq!(
        shown(&watching).len(),
        1,
        "what left the ring was still seen"
    );
    watching.hear(gap(GapReason::EpochChanged), tick).unwrap();
    watching.hear(records(0, &[("z", 1.0)]), tick).unwrap();
    watching.arrange(10, after(tick, 500));
    assert_eq!(shown(&watching), pairs(&[("z", 1.0)]));
}

#[test]
fn a_filter_applies_as_it_is_typed_and_escape_takes_it_back() {
    let tick = begin();
    let mut watching = watching(tick);
    let keys = [("temp.1", 1.0), ("temp.2", 2.0), ("wind", 3.0)];
    watching.hear(records(0, &keys), tick).unwrap();
    let type_in = |watching: &mut Watching, text: &str| {
        watching.act(Action::BeginFilter, tick);
        for c in text.chars() {
            watching.act(Action::Type(c), tick);
        }
        watching.arrange(10, tick);
        shown(watching).len()
    };
    assert_eq!(type_in(&mut watching, "TEMP"), 2);
    watching.act(Action::KeepFilter, tick);
    assert_eq!(watching.mode, Mode::Table);
    assert_eq!(type_in(&mut watching, ".2"), 1);
    watching.act(Action::Close, tick);
    assert_eq!(watching.list.filter().text(), "TEMP");
    watching.act(Action::BeginFilter, tick);
    watching.act(Action::Erase, tick);
    assert_eq!(watching.list.filter().text(), "TEM");
    watching.act(Action::EraseAll, tick);
    watching.act(Action::KeepFilter, tick);
    watching.arrange(10, tick);
    assert_eq!(shown(&watching).len(), 3);
}

#[test]
fn sorting_and_scrolling_are_the_keyboards() {
    let tick = begin();
    let mut watching = watching(tick);
    watching
        .hear(records(0, &[("a", 1.0), ("b", 2.0)]), tick)
        .unwrap();
    watching.act(Action::PreviousColumn, tick);
    assert_eq!(watching.list.column(), Column::Age);
    watching.act(Action::NextColumn, tick);
    watching.act(Action::Reverse, tick);
    watching.arrange(10, tick);
    assert_eq!(shown(&watching), pairs(&[("b", 2.0), ("a", 1.0)]));
    watching.act(Action::Scroll(Move::Down), tick);
    assert_eq!(watching.list.selected(), 1);
    watching.act(Action::Help, tick);
    assert_eq!(watching.mode, Mode::Help);
    assert_eq!(watching.act(Action::Close, tick), Flow::GoOn);
    assert_eq!(watching.mode, Mode::Table);
    assert_eq!(watching.act(Action::Quit, tick), Flow::Quit);
}

#[test]
fn the_screen_is_drawn_when_something_changed() {
    let tick = begin();
    let mut watching = watching(tick);
    assert!(watching.take_changed());
    assert!(!watching.take_changed());
    watching.hear(records(0, &[("a", 1.0)]), tick).unwrap();
    assert!(watching.take_changed());
}
