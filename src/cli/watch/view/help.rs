//! What the keys do, over everything else.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

use super::ink::Ink;

const TEXT: [&str; 15] = [
    "arrows, j k      up, down",
    "PgUp PgDn        a screen up, down",
    "Home End, g G    first, last",
    "s S              sort by the next column, the one before",
    "r                reverse the order",
    "/                filter: part of a key, or a glob like a*",
    "p, space         pause: the screen holds, records go on",
    "Ctrl-L           draw anew",
    "q, Esc, Ctrl-C   quit",
    "",
    "CHANGE is since the left end of TREND: the last 24 values.",
    "stale: nothing came for three of the usual intervals.",
    "lag: what there is and did not come yet. gaps: offsets",
    "that will not come. ring: offsets that can be read.",
    "                                       any key closes this",
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, ink: Ink) {
    let longest = TEXT.iter().map(|line| line.len()).max().unwrap_or(0);
    let size = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let (width, height) = (size(longest + 4), size(TEXT.len() + 2));
    let place = area.centered(Constraint::Max(width), Constraint::Max(height));
    let block = Block::bordered().title("Keys").title_style(ink.strong());
    let lines: Vec<_> = TEXT.map(|line| Line::from(format!(" {line}"))).to_vec();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
