//! Scopes of principals that bring none: those of certificates, proxies, and tokens without a claim.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::model::{Globs, InvalidGlob, InvalidScope, Scopes};

/// Principals whose scopes are kept ready; beyond that all are forgotten.
const MAX_KNOWN: usize = 10_000;

/// To principals that match a glob.
#[derive(Clone, Debug)]
pub struct Grant {
    pub principals: String,
    pub scopes: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Grants {
    grants: Vec<(Globs, Vec<String>)>,
    /// Each principal's scopes are globs of its own, which take long to compile.
    known: Mutex<HashMap<Box<str>, Scopes>>,
}

/// A grant that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    #[error(transparent)]
    Principals(#[from] InvalidGlob),
    #[error(transparent)]
    Scope(#[from] InvalidScope),
}

impl Grants {
    pub(super) fn new(grants: Vec<Grant>) -> Result<Self, InvalidGrant> {
        let compiled = grants.into_iter().map(|grant| {
            Scopes::parse(&grant.scopes, "any")?;
            Ok((Globs::new(&[grant.principals])?, grant.scopes))
        });
        Ok(Self {
            grants: compiled.collect::<Result<_, InvalidGrant>>()?,
            known: Mutex::default(),
        })
    }

    /// All that is granted to `principal`; perhaps nothing.
    pub(super) fn of(&self, principal: &str) -> Scopes {
        if let Some(scopes) = self.known.lock().get(principal) {
            return scopes.clone();
        }
        let own = self.grants.iter().filter(|(who, _)| who.matches(principal));
        let texts = own.flat_map(|(_, scopes)| scopes);
        // They were read before; if a name makes a glob too large, nothing is allowed.
        let scopes = Scopes::parse(texts, principal).unwrap_or_default();
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(principal.into(), scopes.clone());
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Action;

    fn grant(principals: &str, scopes: &[&str]) -> Grant {
        Grant {
            principals: principals.into(),
            scopes: scopes.iter().map(|&scope| scope.into()).collect(),
        }
    }

    #[test]
    fn grants_add_up_and_name_the_principal() {
        let grants = Grants::new(vec![
            grant("spiffe://plant/*", &["ingest:sensors:{principal}.*"]),
            grant("*/pi17", &["subscribe:stocks"]),
        ])
        .unwrap();
        let own = grants.of("spiffe://plant/pi17");
        let keys = own.keys(Action::Ingest, "sensors").unwrap();
        assert!(keys.contain("spiffe://plant/pi17.temp"));
        assert!(!keys.contain("spiffe://plant/pi18.temp"));
        assert!(own.allow_all_of(Action::Subscribe, "stocks"));
        let other = grants.of("spiffe://plant/pi18");
        assert!(!other.allow_some(Action::Subscribe) && other.allow_some(Action::Ingest));
        assert_eq!(grants.of("nobody"), Scopes::nothing());
        // As it was kept.
        assert_eq!(grants.of("spiffe://plant/pi17"), own);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let grants = Grants::new(vec![grant("*", &["observe:*"])]).unwrap();
        for n in 0..=MAX_KNOWN {
            grants.of(&n.to_string());
        }
        assert!(grants.known.lock().len() <= MAX_KNOWN);
    }

    #[test]
    fn a_bad_glob_or_scope_is_an_error() {
        assert!(Grants::new(vec![grant("a[", &["observe:*"])]).is_err());
        assert!(Grants::new(vec![grant("a", &["look:*"])]).is_err());
    }
}
