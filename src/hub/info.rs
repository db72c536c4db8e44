//! KeyInfo: what is known of keys, inherited feed -> glob -> key; the nearest set field wins.

use std::collections::BTreeMap;

use globset::GlobMatcher;
use prost::Message as _;

use super::CatalogError;
use crate::{model::compile_glob, proto::v1::KeyInfo};

/// Whom a description is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InfoScope {
    All,
    Glob(String),
    Key(String),
}

impl InfoScope {
    /// Disk key: one byte of scope, then the text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::All => (0, ""),
            Self::Glob(glob) => (1, glob.as_str()),
            Self::Key(key) => (2, key.as_str()),
        };
        [&[tag], text.as_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, text) = bytes.split_first()?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        match tag {
            0 => Some(Self::All),
            1 => Some(Self::Glob(text)),
            2 => Some(Self::Key(text)),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Infos {
    all: KeyInfo,
    /// Longer globs are nearer.
    globs: Vec<(String, GlobMatcher, KeyInfo)>,
    keys: BTreeMap<String, KeyInfo>,
    /// Rises with each change.
    version: u64,
}

impl Infos {
    pub(crate) fn set(
        &mut self,
        scope: &InfoScope,
        info: Option<KeyInfo>,
    ) -> Result<(), CatalogError> {
        self.version += 1;
        match scope {
            InfoScope::All => self.all = info.unwrap_or_default(),
            InfoScope::Glob(glob) => self.set_glob(glob, info)?,
            InfoScope::Key(key) => match info {
                Some(info) => drop(self.keys.insert(key.clone(), info)),
                None => drop(self.keys.remove(key)),
            },
        }
        Ok(())
    }

    fn set_glob(&mut self, glob: &str, info: Option<KeyInfo>) -> Result<(), CatalogError> {
        let matcher = compile_glob(glob)?;
        self.globs.retain(|(text, _, _)| text != glob);
        if let Some(info) = info {
            self.globs.push((glob.to_owned(), matcher, info));
            self.globs
                .sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        }
        Ok(())
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether keys have an interval they are expected in.
    pub(crate) fn expect_intervals(&self) -> bool {
        let has = |info: &KeyInfo| info.expected_interval.is_some();
        has(&self.all) || self.globs.iter().any(|g| has(&g.2)) || self.keys.values().any(has)
    }

    /// A key's expected interval, inherited or its own.
    pub(crate) fn expected_interval(&self, key: &str) -> Option<prost_types::Duration> {
        let matching = self
            .globs
            .iter()
            .rev()
            .filter(|(_, glob, _)| glob.is_match(key));
        let nearest_first = self.keys.get(key).into_iter();
        let all = nearest_first
            .chain(matching.map(|g| &g.2))
            .chain([&self.all]);
        all.filter_map(|info| info.expected_interval).next()
    }

    /// A key's description, inherited parts included.
    pub(crate) fn get(&self, key: &str) -> KeyInfo {
        let mut info = self.all.clone();
        for (_, _, nearer) in self.globs.iter().filter(|(_, glob, _)| glob.is_match(key)) {
            inherit(&mut info, nearer);
        }
        if let Some(nearest) = self.keys.get(key) {
            inherit(&mut info, nearest);
        }
        info
    }
}

/// Protobuf's own merge rule is the rule of inheritance: set fields replace, maps join. Lists
/// would be appended, so the nearer one is taken whole.
fn inherit(info: &mut KeyInfo, nearer: &KeyInfo) {
    if !nearer.channels.is_empty() {
        info.channels.clear();
    }
    if let Err(error) = info.merge(nearer.encode_to_vec().as_slice()) {
        tracing::error!(%error, "a description does not decode from its own encoding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(unit: &str) -> KeyInfo {
        KeyInfo {
            unit: Some(unit.into()),
            ..Default::default()
        }
    }

    #[test]
    fn the_nearest_description_wins() {
        let mut infos = Infos::default();
        let name = KeyInfo {
            display_name: Some("outdoor".into()),
            channels: vec!["x".into()],
            ..Default::default()
        };
        infos
            .set(
                &InfoScope::All,
                Some(KeyInfo {
                    channels: vec!["a".into()],
                    ..unit("1")
                }),
            )
            .unwrap();
        infos
            .set(&InfoScope::Glob("pi17.temp*".into()), Some(unit("K")))
            .unwrap();
        infos
            .set(&InfoScope::Glob("*.temp".into()), Some(unit("Cel")))
            .unwrap();
        infos
            .set(&InfoScope::Key("pi17.temp".into()), Some(name))
            .unwrap();
        let info = infos.get("pi17.temp");
        assert_eq!(info.unit.as_deref(), Some("K"));
        assert_eq!(info.display_name.as_deref(), Some("outdoor"));
        assert_eq!(info.channels, ["x"]);
        assert_eq!(infos.get("pi18.temp").unit.as_deref(), Some("Cel"));
        assert_eq!(infos.get("pi18.hum").unit.as_deref(), Some("1"));
        infos
            .set(&InfoScope::Glob("pi17.temp*".into()), None)
            .unwrap();
        assert_eq!(infos.get("pi17.temp").unit.as_deref(), Some("Cel"));
    }

    #[test]
    fn a_bad_glob_is_refused() {
        let scope = InfoScope::Glob("a[".into());
        assert!(matches!(
            Infos::default().set(&scope, None),
            Err(CatalogError::InvalidGlob { .. })
        ));
    }
}
