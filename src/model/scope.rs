//! What a caller may do: scopes `action:feed-glob[:key-glob]`, where `{principal}` stands for the
//! caller's own name.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use super::glob::{Globs, InvalidGlob};

/// What can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Upload records, and ask how far an own upload came.
    Ingest,
    /// Read records, and keep named cursors.
    Subscribe,
    /// See feeds, keys, producers and subscribers.
    Observe,
    /// Create, change, trim and delete; includes `observe`.
    Admin,
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Subscribe, Self::Observe, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Subscribe => "subscribe",
            Self::Observe => "observe",
            Self::Admin => "admin",
        }
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    #[error(
        "\"{0}\" is no scope; write action:feed-glob or action:feed-glob:key-glob, where the action is ingest, subscribe, observe, admin or *"
    )]
    Form(String),
    #[error(
        "\"{scope}\" has {{{name}}}, which stands for nothing; the caller's name is {{principal}}"
    )]
    Placeholder { scope: String, name: String },
    #[error(transparent)]
    Glob(#[from] InvalidGlob),
}

/// Which keys of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    All,
    Matching(Globs),
}

impl Keys {
    pub fn contain(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(globs) => globs.matches(key),
        }
    }

    /// The keys of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Matching(a), Self::Matching(b)) => Self::Matching(a.or(&b)),
            (_, _) => Self::All,
        }
    }
}

/// All that a caller may do. Cheap to clone.
#[derive(Clone, Default)]
pub struct Scopes(Arc<[Scope]>);

#[derive(Debug)]
struct Scope {
    text: String,
    /// `None`: every action.
    action: Option<Action>,
    feeds: Globs,
    /// `None`: every key. As text, because those of several scopes are joined.
    keys: Option<String>,
}

impl Scopes {
    /// Nothing is allowed.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything is allowed.
    pub fn everything() -> Self {
        let scope = Scope {
            text: "*:*".into(),
            action: None,
            feeds: every(),
            keys: None,
        };
        Self([scope].into())
    }

    /// Reads scopes of `principal`.
    pub fn parse(
        texts: impl IntoIterator<Item = impl AsRef<str>>,
        principal: &str,
    ) -> Result<Self, InvalidScope> {
        let scopes = texts.into_iter();
        let scopes = scopes.map(|text| Scope::parse(text.as_ref(), principal));
        Ok(Self(scopes.collect::<Result<_, _>>()?))
    }

    /// As they were written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|scope| scope.text.as_str())
    }

    /// Whether a feed may be seen: by whoever may do anything with it, be it for some of its keys.
    pub fn see(&self, feed: &str) -> bool {
        Action::ALL
            .into_iter()
            .any(|action| self.allow_part_of(action, feed))
    }

    /// Whether the action is allowed for any feed at all.
    pub fn allow_some(&self, action: Action) -> bool {
        self.0.iter().any(|scope| scope.allows(action))
    }

    /// For which keys of a feed the action is allowed; `None`: for none.
    pub fn keys(&self, action: Action, feed: &str) -> Option<Keys> {
        let here = |scope: &&Scope| scope.allows(action) && scope.feeds.matches(feed);
        let mut globs = vec![];
        let mut found = false;
        for scope in self.0.iter().filter(here) {
            found = true;
            match &scope.keys {
                None => return Some(Keys::All),
                Some(glob) => globs.push(glob.clone()),
            }
        }
        if !found {
            return None;
        }
        // Each compiled when it was read, so together they do as well; if not, nothing is allowed.
        Globs::new(&globs).ok().map(Keys::Matching)
    }

    /// Whether the action is allowed for a feed, be it for some keys only.
    pub fn allow_part_of(&self, action: Action, feed: &str) -> bool {
        let mut scopes = self.0.iter();
        scopes.any(|scope| scope.allows(action) && scope.feeds.matches(feed))
    }

    /// Globs of the feeds for which the action is allowed, be it for some keys only; each once.
    pub fn feed_globs(&self, action: Action) -> Vec<String> {
        let scopes = self.0.iter().filter(|scope| scope.allows(action));
        let globs: BTreeSet<_> = scopes.flat_map(|scope| scope.feeds.texts()).collect();
        globs.into_iter().cloned().collect()
    }

    /// Whether the action is allowed for all of a feed.
    pub fn allow_all_of(&self, action: Action, feed: &str) -> bool {
        self.keys(action, feed) == Some(Keys::All)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts()).finish()
    }
}

impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        self.texts().eq(other.texts())
    }
}

impl Scope {
    fn parse(text: &str, principal: &str) -> Result<Self, InvalidScope> {
        let form = || InvalidScope::Form(text.to_owned());
        // A key glob may have colons, a feed glob has none.
        let mut parts = text.splitn(3, ':');
        let action = match parts.next().ok_or_else(form)? {
            "*" => None,
            name => Some(name.parse().map_err(|()| form())?),
        };
        if let Some(name) = misspelt(text) {
            let (scope, name) = (text.to_owned(), name.to_owned());
            return Err(InvalidScope::Placeholder { scope, name });
        }
        let own = escaped(principal);
        let glob = |glob: &str| {
            let glob = glob.replace("{principal}", &own);
            Globs::new(std::slice::from_ref(&glob)).map(|globs| (glob, globs))
        };
        let feeds = parts
            .next()
            .filter(|glob| !glob.is_empty())
            .ok_or_else(form)?;
        // All keys are no limit at all.
        let keys = parts.next().filter(|glob| !glob.is_empty() && *glob != "*");
        Ok(Self {
            text: text.to_owned(),
            action,
            feeds: glob(feeds)?.1,
            keys: keys.map(glob).transpose()?.map(|(text, _)| text),
        })
    }

    fn allows(&self, action: Action) -> bool {
        match self.action {
            None => true,
            Some(Action::Admin) => matches!(action, Action::Admin | Action::Observe),
            Some(own) => own == action,
        }
    }
}

impl FromStr for Action {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|action| action.name() == name).ok_or(())
    }
}

/// In braces stand alternatives or the placeholder: one alternative is a placeholder that is written
/// wrongly, and would match nothing without a word. A brace in brackets is itself.
fn misspelt(glob: &str) -> Option<&str> {
    let mut braces = glob.match_indices('{').filter(|(at, _)| {
        let before = glob.get(..*at).unwrap_or_default();
        !before.ends_with(['[', '\\'])
    });
    braces.find_map(|(at, _)| {
        let inner = glob.get(at + 1..)?.split('}').next()?;
        (!inner.contains(',') && inner != "principal").then_some(inner)
    })
}

fn every() -> Globs {
    Globs::new(&["*".to_owned()]).unwrap_or_default()
}

/// A name as a glob that matches nothing else.
fn escaped(name: &str) -> String {
    let mut glob = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(
            character,
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!' | ','
        ) {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str], principal: &str) -> Scopes {
        Scopes::parse(texts, principal).unwrap()
    }

    #[test]
    fn a_placeholder_is_written_right_or_refused() {
        for good in [
            "ingest:f:{principal}.*",
            "ingest:{a,b}:{principal}",
            "ingest:f:[{]x[}]",
        ] {
            Scopes::parse([good], "pi17").unwrap();
        }
        for (bad, name) in [
            ("ingest:f:{principle}.*", "principle"),
            ("ingest:{feed}", "feed"),
            ("ingest:f:{a,b}{}", ""),
        ] {
            let name = name.to_owned();
            let scope = bad.to_owned();
            let refused = Scopes::parse([bad], "pi17").unwrap_err();
            assert_eq!(refused, InvalidScope::Placeholder { scope, name });
        }
    }

    #[test]
    fn a_scope_is_of_an_action_feeds_and_keys() {
        let scopes = scopes(&["ingest:sensors*:pi17.*", "subscribe:stocks"], "pi17");
        let keys = scopes.keys(Action::Ingest, "sensors.eu").unwrap();
        assert!(keys.contain("pi17.temp") && !keys.contain("pi18.temp"));
        assert_eq!(scopes.keys(Action::Subscribe, "stocks"), Some(Keys::All));
        assert_eq!(scopes.keys(Action::Subscribe, "sensors"), None);
        assert_eq!(scopes.keys(Action::Ingest, "stocks"), None);
        assert!(scopes.allow_some(Action::Ingest) && !scopes.allow_some(Action::Observe));
        assert!(scopes.allow_all_of(Action::Subscribe, "stocks"));
        assert!(!scopes.allow_all_of(Action::Ingest, "sensors"));
    }

    #[test]
    fn scopes_of_one_feed_add_up() {
        let scopes = scopes(&["ingest:a:x*", "ingest:*:y", "ingest:b"], "me");
        let keys = scopes.keys(Action::Ingest, "a").unwrap();
        assert!(keys.contain("x1") && keys.contain("y") && !keys.contain("z"));
        assert_eq!(scopes.keys(Action::Ingest, "b"), Some(Keys::All));
    }

    #[test]
    fn feeds_are_known_without_their_keys() {
        let scopes = scopes(
            &["subscribe:b*:x", "subscribe:a", "subscribe:a:y", "admin:c"],
            "me",
        );
        assert_eq!(scopes.feed_globs(Action::Subscribe), ["a", "b*"]);
        assert!(scopes.allow_part_of(Action::Subscribe, "b1"));
        assert!(!scopes.allow_part_of(Action::Subscribe, "c"));
        assert!(scopes.allow_part_of(Action::Observe, "c"));
    }

    #[test]
    fn the_own_name_is_taken_literally() {
        let keys = |principal| {
            let scopes = scopes(&["ingest:sensors:{principal}.*"], principal);
            scopes.keys(Action::Ingest, "sensors").unwrap()
        };
        assert!(keys("pi17").contain("pi17.temp") && !keys("pi17").contain("pi18.temp"));
        for name in ["*", "pi?", "[a-z]", "{a,b}", "a\\", "spiffe://x/y", "!a"] {
            let own = keys(name);
            assert!(own.contain(&format!("{name}.temp")), "{name}");
            assert!(!own.contain("pi1.temp") && !own.contain("a.temp"), "{name}");
        }
    }

    #[test]
    fn admin_may_observe_and_a_star_everything() {
        let admin = scopes(&["admin:a"], "me");
        assert!(admin.allow_all_of(Action::Observe, "a") && !admin.allow_some(Action::Subscribe));
        let all = scopes(&["*:*"], "me");
        let keys = scopes(&["*:*:*"], "me");
        for action in Action::ALL {
            assert!(all.allow_all_of(action, "x"), "{action:?}");
            assert!(keys.allow_all_of(action, "x"), "{action:?}");
            assert!(Scopes::everything().allow_all_of(action, "x"));
            assert!(!Scopes::nothing().allow_some(action));
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "",
            "ingest",
            "ingest:",
            "read:a",
            "ingest:a[",
            "ingest:a:b[",
        ] {
            let refused = Scopes::parse([text], "me");
            assert!(refused.is_err(), "{text:?} gave {refused:?}");
        }
    }
}
