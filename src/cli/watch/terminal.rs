//! The terminal while it is ours: raw, on its other screen, without a cursor. Given back whatever
//! happens.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// Ours until it is dropped. A panic gives it back before it says why.
#[derive(Debug)]
pub(super) struct Stage(DefaultTerminal);

impl Stage {
    pub(super) fn enter() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(mut terminal) => {
                terminal.clear()?;
                Ok(Self(terminal))
            }
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(render).map(|_drawn| ())
    }

    /// Draws everything the next time, whatever is thought to be there.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.0.clear()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A terminal that is gone cannot be given back.
        self.0.show_cursor().ok();
        leave();
    }
}

fn leave() {
    ratatui::try_restore().ok();
}
