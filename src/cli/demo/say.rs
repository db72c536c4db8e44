//! What the demo prints: lines, and on a terminal a table that is drawn over itself.

use std::io;

use console::Term;
use parking_lot::Mutex;

#[derive(Debug)]
pub(super) struct Say {
    term: Term,
    /// Lines of the table that is drawn over next time.
    drawn: Mutex<usize>,
}

impl Say {
    pub(super) fn new() -> Self {
        Self {
            term: Term::stdout(),
            drawn: Mutex::new(0),
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.term.is_term()
    }

    /// Prints a line below what is there. A reader that is gone wants no more lines.
    pub(super) fn line(&self, text: &str) {
        *self.drawn.lock() = 0;
        let _gone: io::Result<()> = self.term.write_line(text);
    }

    /// Draws the table, on a terminal over the one before.
    pub(super) fn table(&self, lines: &[String]) {
        let mut drawn = self.drawn.lock();
        if self.is_terminal() && *drawn > 0 {
            let _gone: io::Result<()> = self.term.clear_last_lines(*drawn);
        }
        let width = usize::from(self.term.size().1).max(40);
        for line in lines {
            let cut: String = line.chars().take(width).collect();
            let _gone: io::Result<()> = self.term.write_line(&cut);
        }
        *drawn = lines.len();
    }
}
