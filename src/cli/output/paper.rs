//! What is printed on: a terminal of some width, or whatever is behind a pipe.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    On,
    Off,
}

/// Whether what is long is shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// To so many columns of a terminal.
    To(usize),
    Never,
}

/// What tables look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paper {
    pub colour: Colour,
    pub cut: Cut,
}

/// What a terminal has when it does not say otherwise.
const WIDTH: usize = 80;

impl Paper {
    /// For programs: everything, and nothing else.
    pub const PIPE: Self = Self {
        colour: Colour::Off,
        cut: Cut::Never,
    };

    /// What stdout wants now.
    pub fn of_stdout() -> Self {
        let terminal = console::Term::stdout();
        if !terminal.is_term() {
            return Self::PIPE;
        }
        let colour = if console::colors_enabled() {
            Colour::On
        } else {
            Colour::Off
        };
        let width = terminal.size_checked().map(|(_, columns)| columns);
        let width = width.filter(|columns| *columns > 0);
        Self {
            colour,
            cut: Cut::To(width.map_or(WIDTH, usize::from)),
        }
    }
}
