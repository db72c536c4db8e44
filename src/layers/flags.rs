//! Feature flags: what a caller may ask for in x-feature-flags. Which of them are in force is known
//! when it is known who calls.

use std::sync::Arc;

use crate::model::{Globs, InvalidGlob};

/// The flags there are, and whose principals may set them.
#[derive(Clone, Debug, Default)]
pub struct FeatureFlags(Arc<[(Box<str>, Globs)]>);

/// What became of the flags that a call asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub set: Vec<Box<str>>,
    /// There is no such flag, or it is not for this caller.
    pub ignored: Vec<Box<str>>,
}

impl FeatureFlags {
    /// Each by its name and a glob of principals.
    pub fn new<'a>(
        flags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidGlob> {
        let flags = flags.into_iter().map(|(name, principals)| {
            let principals = Globs::new(&[principals.to_owned()])?;
            Ok((name.into(), principals))
        });
        Ok(Self(flags.collect::<Result<_, _>>()?))
    }

    pub(super) fn decide(&self, wanted: &[Box<str>], principal: &str) -> Flags {
        let may = |flag: &str| {
            let mut rules = self.0.iter().filter(|(name, _)| **name == *flag);
            rules.any(|(_, principals)| principals.matches(principal))
        };
        let (set, ignored) = wanted.iter().cloned().partition(|flag| may(flag));
        Flags { set, ignored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_for_those_whom_its_glob_names() {
        let flags = [("beta", "team-*"), ("all", "*"), ("beta", "root")];
        let flags = FeatureFlags::new(flags).unwrap();
        let wanted = ["beta", "all", "none"].map(Box::from);
        let decided = |principal| {
            let Flags { set, ignored } = flags.decide(&wanted, principal);
            (set.join(","), ignored.join(","))
        };
        assert_eq!(decided("team-a"), ("beta,all".into(), "none".into()));
        assert_eq!(decided("root"), ("beta,all".into(), "none".into()));
        assert_eq!(decided("other"), ("all".into(), "beta,none".into()));
        assert!(FeatureFlags::new([("x", "[")]).is_err());
    }
}
