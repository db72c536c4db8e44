//! Draws what is watched. From what it is given alone: the same state is the same screen.

mod columns;
mod head;
mod help;
mod ink;
mod rows;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
};

use self::{columns::Natural, ink::Ink, rows::Cells};
use super::{
    Tick,
    watching::{Mode, Watching},
};
use crate::cli::output::Colour;

/// With fewer lines than these, some of what is around the table gives way to it.
const ROOMY: u16 = 14;
const TIGHT: u16 = 6;

/// The view of one terminal.
#[derive(Debug)]
pub(super) struct View {
    ink: Ink,
    /// How wide columns would be: they grow while a terminal stays as wide as it is, so that nothing
    /// moves to and fro as digits come and go.
    natural: Natural,
    width: u16,
}

/// Where everything goes. What has no room has no height.
struct Places {
    title: Rect,
    figures: Rect,
    notice: Rect,
    table: Rect,
    details: Rect,
    foot: Rect,
}

impl View {
    pub(super) fn new(colour: Colour) -> Self {
        Self {
            ink: Ink::new(colour),
            natural: Natural::default(),
            width: 0,
        }
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, watching: &mut Watching, now: Tick) {
        let area = frame.area();
        if area.width != self.width {
            self.width = area.width;
            self.natural = Natural::default();
        }
        let places = places(area);
        let page = places.table.height.saturating_sub(1);
        watching.arrange(usize::from(page), now);
        self.heads(frame, &places, watching, now);
        self.table(frame, &places, watching, now);
        if watching.mode == Mode::Help {
            help::draw(frame, area, self.ink);
        }
    }

    fn heads(&self, frame: &mut Frame<'_>, places: &Places, watching: &Watching, now: Tick) {
        let width = |place: Rect| usize::from(place.width);
        let mut put = |place: Rect, line: Line<'_>| frame.render_widget(line, place);
        put(
            places.title,
            head::title(watching, width(places.title), self.ink),
        );
        let notice = head::notice(watching, width(places.figures), now, self.ink);
        let has_room = places.notice.height > 0;
        match notice {
            Some(line) if has_room => put(places.notice, line),
            Some(line) if head::is_urgent(watching) => {
                put(places.figures, line);
                return put(
                    places.foot,
                    head::foot(watching, width(places.foot), self.ink),
                );
            }
            Some(_) | None => {}
        }
        put(
            places.figures,
            head::figures(watching, width(places.figures), now, self.ink),
        );
        put(
            places.details,
            head::details(watching, width(places.details), self.ink),
        );
        put(
            places.foot,
            head::foot(watching, width(places.foot), self.ink),
        );
    }

    fn table(&mut self, frame: &mut Frame<'_>, places: &Places, watching: &Watching, now: Tick) {
        let board = watching.board();
        let time = watching.time_of_board(now);
        let visible = watching.list.visible();
        let rows = visible.filter_map(|(place, at)| Some((place, board.rows().get(at)?)));
        let cells: Vec<_> = rows
            .map(|(place, row)| (place, Cells::of(row, time.unix)))
            .collect();
        for (_, cells) in &cells {
            self.natural.fit(cells);
        }
        let width = usize::from(places.table.width);
        let columns = self.natural.columns(width, board.is_mixed());
        let table = rows::table(&cells, &columns, &watching.list, self.ink);
        frame.render_widget(table, places.table);
    }
}

fn places(area: Rect) -> Places {
    let is_roomy = area.height >= ROOMY;
    let is_tight = area.height < TIGHT;
    let line = |wanted: bool| Constraint::Length(u16::from(wanted));
    let parts = [
        line(true),
        line(!is_tight),
        line(is_roomy),
        Constraint::Min(0),
        line(is_roomy),
        line(!is_tight),
    ];
    let [title, figures, notice, table, details, foot] = Layout::vertical(parts).areas(area);
    Places {
        title,
        figures,
        notice,
        table,
        details,
        foot,
    }
}

#[cfg(test)]
mod tests;
