//! All that a screen shows, and what becomes of it when something comes in or a key is pressed. Pure:
//! no terminal, no clock.

use std::collections::HashMap;

use prost::Message as _;

use super::{
    Tick,
    board::Board,
    filter::Filter,
    keys::Action,
    link::{Link, Phase},
    list::List,
};
use crate::{
    cli::remarks::{mode_text, narrowed_text},
    client::Event,
    model::GapReason,
    proto::v1,
};

/// What keys mean at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// A filter is being typed; the one before it comes back with Esc.
    Filter {
        before: String,
    },
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

/// What the screen holds while it is paused.
#[derive(Debug)]
pub(super) struct Held {
    board: Board,
    pub(super) tick: Tick,
    /// Records that had come by then.
    records: u64,
}

#[derive(Debug)]
pub(super) struct Watching {
    pub(super) feed: String,
    pub(super) endpoint: String,
    pub(super) link: Link,
    pub(super) mode: Mode,
    pub(super) list: List,
    live: Board,
    held: Option<Held>,
    /// Something changed since it was last asked.
    changed: bool,
}

impl Watching {
    pub(super) fn new(feed: String, endpoint: String, tick: Tick) -> Self {
        Self {
            feed,
            endpoint,
            link: Link::new(tick.at),
            mode: Mode::Table,
            list: List::default(),
            live: Board::default(),
            held: None,
            changed: true,
        }
    }

    /// What is on the screen: the present, or what it was when it was paused.
    pub(super) fn board(&self) -> &Board {
        self.held.as_ref().map_or(&self.live, |held| &held.board)
    }

    /// What ages on the screen are measured against.
    pub(super) fn time_of_board(&self, now: Tick) -> Tick {
        self.held.as_ref().map_or(now, |held| held.tick)
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Records that came since the screen was paused.
    pub(super) fn came_meanwhile(&self) -> u64 {
        let before = self.held.as_ref().map(|held| held.records);
        before.map_or(0, |before| self.link.records - before)
    }

    /// How many rows there are without the screen's pause.
    pub(super) fn known_rows(&self) -> usize {
        self.live.rows().len()
    }

    /// Whether the screen is to be drawn anew; true once for each change.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// So many rows fit. Sorts them, if that is due.
    pub(super) fn arrange(&mut self, page: usize, now: Tick) {
        self.list.set_page(page);
        let (board, tick) = match &self.held {
            Some(held) => (&held.board, held.tick),
            None => (&self.live, now),
        };
        // Whatever is pressed meanwhile takes effect at once; the clock goes on.
        let tick = Tick { at: now.at, ..tick };
        self.list.arrange(board, tick);
    }

    pub(super) fn hear(&mut self, event: Event, now: Tick) -> Result<(), prost::DecodeError> {
        self.changed = true;
        if let Event::Disconnected { reason, delay } = event {
            self.link.broke(reason, delay, now.at);
            return Ok(());
        }
        self.link.hears();
        match event {
            Event::Records {
                covers, records, ..
            } => {
                let came = u64::try_from(records.len()).unwrap_or(u64::MAX);
                self.link.settle(covers.len(), came, now.at);
                self.take(records)?;
            }
            Event::Snapshot { batch, .. } => self.take(batch.records)?,
            Event::SnapshotComplete { .. } => self.link.phase = Phase::CatchingUp,
            Event::CaughtUp { .. } => self.link.phase = Phase::Live,
            Event::Gap { feed, gap, .. } => {
                if gap.reason == GapReason::EpochChanged {
                    self.live.clear();
                }
                self.link.miss(&feed, &gap);
            }
            Event::Heartbeat { heartbeat, .. } => self.link.heartbeat = Some(heartbeat),
            Event::KeyInfo(update) => {
                self.live
                    .describe(update.key, update.info.unwrap_or_default());
            }
            Event::Narrowed { narrowed, .. } => {
                self.link.narrowed = Some(narrowed_text(&narrowed));
            }
            Event::ModeChanged { change, .. } => self.link.narrowed = Some(mode_text(&change)),
            // Told above, or not asked for.
            Event::Disconnected { .. } | Event::Bars { .. } | Event::SelectorEnded { .. } => {}
        }
        Ok(())
    }

    fn take(&mut self, records: Vec<bytes::Bytes>) -> Result<(), prost::DecodeError> {
        for record in records {
            self.live.take(v1::Record::decode(record)?);
        }
        Ok(())
    }

    /// What was in the ring before the last record of each key.
    pub(super) fn put_before(&mut self, older: &HashMap<(String, &'static str), Vec<(u64, f64)>>) {
        self.live.put_before(older);
        self.changed = true;
    }

    pub(super) fn act(&mut self, action: Action, now: Tick) -> Flow {
        self.changed = true;
        match action {
            Action::Quit => return Flow::Quit,
            Action::Redraw => {}
            Action::Scroll(to) => self.list.scroll(to),
            Action::NextColumn => self.list.sort_by(self.list.column().next()),
            Action::PreviousColumn => self.list.sort_by(self.list.column().previous()),
            Action::Reverse => self.list.reverse(),
            Action::Pause => self.pause(now),
            Action::Help => self.mode = Mode::Help,
            Action::Close => self.close(),
            Action::BeginFilter => {
                let before = self.list.filter().text().to_owned();
                self.mode = Mode::Filter { before };
            }
            Action::Type(c) => {
                let text = format!("{}{c}", self.list.filter().text());
                self.list.set_filter(Filter::new(text));
            }
            Action::Erase => {
                let mut text = self.list.filter().text().to_owned();
                text.pop();
                self.list.set_filter(Filter::new(text));
            }
            Action::EraseAll => self.list.set_filter(Filter::default()),
            Action::KeepFilter => self.mode = Mode::Table,
        }
        Flow::GoOn
    }

    /// Leaves help, or the filter as it was.
    fn close(&mut self) {
        let mode = std::mem::replace(&mut self.mode, Mode::Table);
        if let Mode::Filter { before } = mode {
            self.list.set_filter(Filter::new(before));
        }
    }

    fn pause(&mut self, now: Tick) {
        self.held = match self.held.take() {
            Some(_) => None,
            None => Some(Held {
                board: self.live.clone(),
                tick: now,
                records: self.link.records,
            }),
        };
        self.list.begin();
    }
}

#[cfg(test)]
mod tests;
