//! What a JWT says, and whether that holds here and now. The signature was checked before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::layers::authenticate::{refusal::Refusal, token_file::principal_fault};

pub(super) type Claims = Map<String, Value>;

/// What has to hold.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    /// How far clocks may differ.
    pub(super) leeway: Duration,
    pub(super) scope_claim: String,
}

/// What a token says that is in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) principal: String,
    /// `None`: it has no such claim.
    pub(super) scopes: Option<Vec<String>>,
    /// With the leeway.
    pub(super) expires: SystemTime,
}

impl Terms {
    pub(super) fn check(&self, claims: &Claims, now: SystemTime) -> Result<Said, Refusal> {
        let expires = time(claims, "exp")?.ok_or(Refusal::Claims)? + self.leeway;
        if expires <= now {
            return Err(Refusal::Expired);
        }
        let begins = time(claims, "nbf")?.unwrap_or(UNIX_EPOCH);
        if begins > now + self.leeway {
            return Err(Refusal::NotYetValid);
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Refusal::Issuer);
        }
        if let Some(audience) = &self.audience
            && !texts(claims.get("aud")).contains(&audience.as_str())
        {
            return Err(Refusal::Audience);
        }
        let principal = claims.get("sub").and_then(Value::as_str);
        let principal = principal.filter(|name| principal_fault(name).is_none());
        Ok(Said {
            principal: principal.ok_or(Refusal::Claims)?.to_owned(),
            scopes: self.scopes(claims),
            expires,
        })
    }

    fn scopes(&self, claims: &Claims) -> Option<Vec<String>> {
        let claim = claims.get(&self.scope_claim)?;
        let words = texts(Some(claim)).into_iter();
        let words = words.flat_map(str::split_whitespace).map(str::to_owned);
        Some(words.collect())
    }
}

/// A text, or a list of them.
fn texts(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

/// Seconds since 1970, perhaps with a fraction.
fn time(claims: &Claims, name: &str) -> Result<Option<SystemTime>, Refusal> {
    let Some(claim) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = claim.as_f64().ok_or(Refusal::Claims)?;
    let since = Duration::try_from_secs_f64(seconds).ok();
    let time = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    // Far enough from the end of all time to add a leeway.
    let bounded = time.filter(|_| seconds < 1e12);
    bounded.map(Some).ok_or(Refusal::Claims)
}
