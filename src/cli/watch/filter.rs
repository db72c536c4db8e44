//! Which keys are shown.

use globset::GlobMatcher;

use crate::{model::compile_glob, proto::place::is_glob};

/// A part of a key in whatever case, or a glob of the whole key.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    text: String,
    lower: String,
    glob: Option<GlobMatcher>,
}

impl Filter {
    pub(super) fn new(text: String) -> Self {
        let glob = is_glob(&text).then(|| compile_glob(&text).ok()).flatten();
        Self {
            lower: text.to_lowercase(),
            glob,
            text,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(key),
            None => self.is_empty() || key.to_lowercase().contains(&self.lower),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_or_a_glob_of_the_key_is_enough() {
        let matches = |text: &str, key| Filter::new(text.to_owned()).matches(key);
        assert!(matches("", "PI17.temp"));
        assert!(matches("pi17", "PI17.temp") && !matches("pi18", "PI17.temp"));
        assert!(matches("*.temp", "PI17.temp") && !matches("*.temp", "PI17.temp.raw"));
        assert!(matches("ÄÖ", "xäö"));
        // No glob yet: somebody is still typing.
        assert!(matches("[ab", "x[AB") && !matches("[ab", "a"));
    }
}
