//! The lines around the table: what is watched, how it is doing, what to press.

use std::time::Duration;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ink::Ink, rows::fit};
use crate::{
    cli::{
        output::{escaped, value_summary},
        plain,
        watch::{
            Tick,
            link::Phase,
            row::Row,
            watching::{Mode, Watching},
        },
    },
    proto::convert::time_text,
};

const BETWEEN: &str = " · ";
/// Eviction that is nearer than this is said.
const URGENT: Duration = Duration::from_secs(60);

/// Feed and endpoint, and at the right end whether it is live.
pub(super) fn title(watching: &Watching, width: usize, ink: Ink) -> Line<'static> {
    let (mut state, mut style) = phase(&watching.link.phase, ink);
    if watching.held().is_some() {
        state = format!("‖ PAUSED  {state}");
        style = ink.warning();
    }
    let room = width.saturating_sub(console::measure_text_width(&state) + 1);
    let feed = fit(&escaped(&watching.feed), room);
    let left = room.saturating_sub(console::measure_text_width(&feed) + 2);
    let endpoint = escaped(&watching.endpoint);
    let endpoint = if console::measure_text_width(&endpoint) <= left {
        format!("  {endpoint}")
    } else {
        String::new()
    };
    let taken = console::measure_text_width(&feed) + console::measure_text_width(&endpoint);
    let blanks = " ".repeat((room + 1).saturating_sub(taken));
    Line::from(vec![
        Span::styled(feed, ink.strong()),
        Span::styled(endpoint, ink.faint()),
        Span::raw(blanks),
        Span::styled(state, style),
    ])
}

fn phase(phase: &Phase, ink: Ink) -> (String, Style) {
    let (text, style) = match phase {
        Phase::Connecting => ("◌ connecting", ink.warning()),
        Phase::Loading => ("◌ loading", ink.warning()),
        Phase::CatchingUp => ("◐ catching up", ink.warning()),
        Phase::Live => ("● live", ink.good()),
        Phase::Reconnecting { .. } => ("○ reconnecting", ink.bad()),
    };
    (text.to_owned(), style)
}

/// A figure, and how much it would be missed.
struct Figure {
    rank: u8,
    text: String,
    style: Style,
}

/// As many figures as there is room for.
pub(super) fn figures(watching: &Watching, width: usize, now: Tick, ink: Ink) -> Line<'static> {
    let mut figures = all_figures(watching, now, ink);
    let length = |figures: &[Figure]| {
        let texts = figures.iter().map(|figure| figure.text.chars().count());
        texts.sum::<usize>() + 3 * figures.len().saturating_sub(1)
    };
    while length(&figures) > width && figures.len() > 1 {
        let least = figures.iter().map(|figure| figure.rank).min();
        figures.retain(|figure| Some(figure.rank) != least);
    }
    let mut spans = vec![];
    for figure in figures {
        if !spans.is_empty() {
            spans.push(Span::styled(BETWEEN, ink.faint()));
        }
        spans.push(Span::styled(figure.text, figure.style));
    }
    Line::from(spans)
}

fn all_figures(watching: &Watching, now: Tick, ink: Ink) -> Vec<Figure> {
    let link = &watching.link;
    let mut figures = vec![];
    let mut add = |rank, text: String, style| figures.push(Figure { rank, text, style });
    let (of_feed, came) = link.rates(now.at);
    add(8, rows_text(watching), ink.plain());
    add(7, whole_rate(of_feed), ink.plain());
    add(2, format!("{} shown", whole_rate(came)), ink.plain());
    if let Some((records, time)) = link.lag() {
        let time = match time {
            Duration::ZERO => String::new(),
            time => format!(" ({})", plain::duration(time)),
        };
        add(
            6,
            format!("lag {}{time}", plain::count(records)),
            ink.plain(),
        );
    }
    match &link.gaps.last {
        None => add(5, "no gaps".to_owned(), ink.plain()),
        Some((reason, _)) => {
            let (gaps, missed) = (link.gaps.gaps, plain::count(link.gaps.offsets));
            let text = format!("gaps {gaps} ({missed} missed, last {})", reason.label());
            add(10, text, ink.bad());
        }
    }
    if let Some(time) = link.eviction().filter(|time| *time < URGENT) {
        add(
            9,
            format!("eviction in {}", plain::duration(time)),
            ink.bad(),
        );
    }
    if let Some((oldest, next)) = link.ring() {
        let (oldest, next) = (plain::count(oldest), plain::count(next));
        add(3, format!("ring {oldest}..{next}"), ink.plain());
    }
    if link.reconnects > 0 {
        let text = format!("reconnected {}×", link.reconnects);
        add(4, text, ink.plain());
    }
    figures
}

fn rows_text(watching: &Watching) -> String {
    let (shown, all) = (watching.list.len(), watching.board().rows().len());
    let all = match all {
        1 => "1 row".to_owned(),
        all => format!(
            "{} rows",
            plain::count(u64::try_from(all).unwrap_or(u64::MAX))
        ),
    };
    if watching.list.filter().is_empty() {
        return all;
    }
    let shown = plain::count(u64::try_from(shown).unwrap_or(u64::MAX));
    format!("{shown} of {all}")
}

fn whole_rate(rate: f64) -> String {
    match plain::rate(rate) {
        none if none == "-" => "0/s".to_owned(),
        rate => rate,
    }
}

/// Whether the notice is worth more than figures.
pub(super) fn is_urgent(watching: &Watching) -> bool {
    let is_gone = matches!(watching.link.phase, Phase::Reconnecting { .. });
    watching.held().is_some() || is_gone
}

/// What is out of the ordinary, if anything.
pub(super) fn notice(
    watching: &Watching,
    width: usize,
    now: Tick,
    ink: Ink,
) -> Option<Line<'static>> {
    let link = &watching.link;
    let (text, style) = if let Some(held) = watching.held() {
        let time = plain::duration(now.at - held.tick.at);
        let came = match watching.came_meanwhile() {
            1 => "1 record".to_owned(),
            came => format!("{} records", plain::count(came)),
        };
        let text = format!("paused for {time}: {came} came meanwhile; p goes on");
        (text, ink.warning())
    } else if let Phase::Reconnecting {
        reason,
        since,
        again,
    } = &link.phase
    {
        let time = plain::duration(now.at - *since);
        let again = match *again - now.at {
            Duration::ZERO => "trying".to_owned(),
            left => format!("again in {}", plain::duration(left)),
        };
        let text = format!("no connection for {time}, {again}: {}", escaped(reason));
        (text, ink.bad())
    } else if let Some((_, gap)) = &link.gaps.last {
        (escaped(gap).into_owned(), ink.bad())
    } else if let Some(narrowed) = &link.narrowed {
        (escaped(narrowed).into_owned(), ink.warning())
    } else {
        return None;
    };
    Some(Line::from(Span::styled(fit(&text, width), style)))
}

/// All of the selected row.
pub(super) fn details(watching: &Watching, width: usize, ink: Ink) -> Line<'static> {
    let at = watching.list.selected_row();
    let row = at.and_then(|at| watching.board().rows().get(at));
    let text = row.map(|row| row_text(row)).unwrap_or_default();
    Line::from(Span::styled(fit(&text, width), ink.faint()))
}

fn row_text(row: &Row) -> String {
    let record = row.record();
    let name = row.info().and_then(|info| info.display_name.as_deref());
    let name = name.map(|name| format!("\"{}\"", escaped(name)));
    let time = record.event_time_unix_nanos.map(time_text);
    let parts = [
        Some(escaped(row.key()).into_owned()),
        name,
        Some(format!(
            "{} {}",
            row.kind(),
            value_summary(record, row.info())
        )),
        time,
        Some(format!("offset {}", record.offset)),
    ];
    parts
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(BETWEEN)
}

/// The filter that is being typed, or what keys do; and which rows are on the screen.
pub(super) fn foot(watching: &Watching, width: usize, ink: Ink) -> Line<'static> {
    let filter = escaped(watching.list.filter().text()).into_owned();
    if let Mode::Filter { .. } = watching.mode {
        let keys = "   Enter keeps it, Esc takes it back";
        let room = width.saturating_sub(2);
        // Its end is where one types.
        let long = console::measure_text_width(&filter).saturating_sub(room);
        let end: String = filter.chars().skip(long).collect();
        return Line::from(vec![
            Span::styled(format!("/{end}"), ink.strong()),
            Span::styled("▏", ink.strong()),
            Span::styled(keys, ink.faint()),
        ]);
    }
    let place = place_text(watching);
    let mut left = width.saturating_sub(place.chars().count() + 2);
    let mut text = String::new();
    let filtered = (!filter.is_empty()).then(|| format!("/{filter}"));
    let keys = [
        "? help",
        "q quit",
        "p pause",
        "/ filter",
        "s sort",
        "r reverse",
    ];
    let hints = filtered.into_iter().chain(keys.map(str::to_owned));
    for hint in hints {
        let hint = if text.is_empty() {
            fit(&hint, left)
        } else {
            format!("{BETWEEN}{hint}")
        };
        let length = console::measure_text_width(&hint);
        if length > left {
            break;
        }
        left -= length;
        text.push_str(&hint);
    }
    let taken = console::measure_text_width(&text) + place.chars().count();
    let blanks = " ".repeat(width.saturating_sub(taken));
    Line::from(Span::styled(format!("{text}{blanks}{place}"), ink.faint()))
}

fn place_text(watching: &Watching) -> String {
    let mut visible = watching.list.visible().map(|(place, _)| place + 1);
    let Some(first) = visible.next() else {
        return "no rows".to_owned();
    };
    let last = visible.last().unwrap_or(first);
    let count = |number: usize| plain::count(u64::try_from(number).unwrap_or(u64::MAX));
    format!(
        "{}–{} of {}",
        count(first),
        count(last),
        count(watching.list.len())
    )
}
