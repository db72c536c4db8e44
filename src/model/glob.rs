//! Globs over names of feeds and keys: `*` spans dots and slashes, as names are no paths.

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// A text that is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{glob}\" is no glob: {detail}")]
pub struct InvalidGlob {
    pub glob: String,
    pub detail: String,
}

/// Several globs; a name matches when one of them does.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    texts: Vec<String>,
    set: GlobSet,
}

impl Globs {
    pub fn new(texts: &[String]) -> Result<Self, InvalidGlob> {
        let mut texts = texts.to_vec();
        texts.sort_unstable();
        texts.dedup();
        let mut set = GlobSetBuilder::new();
        for text in &texts {
            set.add(parse(text)?);
        }
        let set = set.build().map_err(|error| InvalidGlob {
            glob: texts.join(", "),
            detail: error.kind().to_string(),
        })?;
        Ok(Self { texts, set })
    }

    /// What matches one of these or one of those. Each compiled before, so together they do as well;
    /// if not, nothing matches.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let both = [self.texts(), other.texts()].concat();
        Self::new(&both).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Sorted, each once.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    pub fn matches(&self, name: &str) -> bool {
        !self.is_empty() && self.set.is_match(name)
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Globs {}

/// One glob.
pub fn compile_glob(text: &str) -> Result<GlobMatcher, InvalidGlob> {
    Ok(parse(text)?.compile_matcher())
}

fn parse(text: &str) -> Result<Glob, InvalidGlob> {
    let built = GlobBuilder::new(text)
        .literal_separator(false)
        .backslash_escape(true)
        .build();
    built.map_err(|error| InvalidGlob {
        glob: text.to_owned(),
        detail: error.kind().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_globs_is_enough() {
        let globs = Globs::new(&["pi17.*".into(), "door?".into(), "pi17.*".into()]).unwrap();
        assert_eq!(globs.texts(), ["door?", "pi17.*"]);
        for name in ["pi17.temp", "pi17.a.b/c", "door1"] {
            assert!(globs.matches(name), "{name}");
        }
        for name in ["pi18.temp", "door", "door12", ""] {
            assert!(!globs.matches(name), "{name}");
        }
        assert!(!Globs::default().matches("a"));
    }

    #[test]
    fn a_bad_glob_is_refused_by_name() {
        let refused = Globs::new(&["ok*".into(), "a[".into()]).unwrap_err();
        assert_eq!(refused.glob, "a[");
    }
}
