//! What keys of the keyboard mean.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{list::Move, watching::Mode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// Draws all of the screen, whatever is thought to be there.
    Redraw,
    Scroll(Move),
    NextColumn,
    PreviousColumn,
    Reverse,
    Pause,
    Help,
    /// Leaves help, or the filter as it was.
    Close,
    BeginFilter,
    Type(char),
    Erase,
    EraseAll,
    KeepFilter,
}

/// What a key does; `None`: nothing.
pub(super) fn action(mode: &Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return with_control(mode, key.code);
    }
    match mode {
        Mode::Filter { .. } => in_filter(key.code),
        Mode::Help => Some(Action::Close),
        Mode::Table => in_table(key.code),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
fn with_control(mode: &Mode, code: KeyCode) -> Option<Action> {
    let in_filter = matches!(mode, Mode::Filter { .. });
    match code {
        KeyCode::Char('c') => Some(Action::Quit),
        KeyCode::Char('l') => Some(Action::Redraw),
        KeyCode::Char('u') if in_filter => Some(Action::EraseAll),
        KeyCode::Char('u' | 'b') => Some(Action::Scroll(Move::PageUp)),
        KeyCode::Char('d' | 'f') => Some(Action::Scroll(Move::PageDown)),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
fn in_filter(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Enter => Some(Action::KeepFilter),
        KeyCode::Esc => Some(Action::Close),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Char(c) => Some(Action::Type(c)),
        code => scroll(code),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
fn in_table(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('s') => Some(Action::NextColumn),
        KeyCode::Char('S') => Some(Action::PreviousColumn),
        KeyCode::Char('r') => Some(Action::Reverse),
        KeyCode::Char('/') => Some(Action::BeginFilter),
        KeyCode::Char('p' | ' ') => Some(Action::Pause),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Action::Help),
        KeyCode::Char('k') => Some(Action::Scroll(Move::Up)),
        KeyCode::Char('j') => Some(Action::Scroll(Move::Down)),
        KeyCode::Char('g') => Some(Action::Scroll(Move::Home)),
        KeyCode::Char('G') => Some(Action::Scroll(Move::End)),
        code => scroll(code),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys do nothing")]
fn scroll(code: KeyCode) -> Option<Action> {
    let to = match code {
        KeyCode::Up => Move::Up,
        KeyCode::Down => Move::Down,
        KeyCode::PageUp => Move::PageUp,
        KeyCode::PageDown => Move::PageDown,
        KeyCode::Home => Move::Home,
        KeyCode::End => Move::End,
        _ => return None,
    };
    Some(Action::Scroll(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(mode: &Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn letters_are_commands_but_in_a_filter() {
        let filter = Mode::Filter {
            before: String::new(),
        };
        for (key, command) in [
            ('q', Action::Quit),
            ('p', Action::Pause),
            (' ', Action::Pause),
            ('s', Action::NextColumn),
            ('j', Action::Scroll(Move::Down)),
        ] {
            assert_eq!(press(&Mode::Table, KeyCode::Char(key)), Some(command));
            assert_eq!(press(&filter, KeyCode::Char(key)), Some(Action::Type(key)));
            assert_eq!(press(&Mode::Help, KeyCode::Char(key)), Some(Action::Close));
        }
        assert_eq!(
            press(&filter, KeyCode::Down),
            Some(Action::Scroll(Move::Down))
        );
    }

    #[test]
    fn control_c_quits_everywhere_and_escape_leaves_what_is_open() {
        let filter = Mode::Filter {
            before: String::new(),
        };
        for mode in [Mode::Table, filter.clone(), Mode::Help] {
            let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
            assert_eq!(action(&mode, key), Some(Action::Quit));
        }
        assert_eq!(press(&Mode::Table, KeyCode::Esc), Some(Action::Quit));
        assert_eq!(press(&filter, KeyCode::Esc), Some(Action::Close));
        assert_eq!(press(&Mode::Help, KeyCode::Esc), Some(Action::Close));
    }

    #[test]
    fn a_key_that_is_let_go_does_nothing() {
        let key = KeyEvent {
            kind: KeyEventKind::Release,
            ..KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)
        };
        assert_eq!(action(&Mode::Table, key), None);
    }
}
