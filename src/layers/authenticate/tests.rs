//! Who a caller is when it shows several things, or nothing.

use std::fs;

use http::{HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{layers::Security, model::Action};

const XFCC: &str = "x-forwarded-client-cert";

struct Bed {
    _dir: tempfile::TempDir,
    good: String,
    authenticator: Authenticator,
}

fn grant(principals: &str, scope: &str) -> Grant {
    Grant {
        principals: principals.into(),
        scopes: vec![scope.into()],
    }
}

/// All sources but JWT.
fn bed(anonymous: Anonymous) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.toml");
    let token = NewToken::make("tokened".into(), vec!["ingest:t".into()], None, None).unwrap();
    let tokens = vec![token.entry];
    fs::write(&path, toml::to_string(&TokenFile { tokens }).unwrap()).unwrap();
    let authenticator = Authenticator::new(AuthOptions {
        token_file: Some(path),
        certificates: Certificates::Shown,
        trusted_proxies: vec!["10.0.0.0/8".into(), "envoy".into()],
        grants: vec![
            grant("certified", "ingest:c"),
            grant("spiffe://*", "ingest:f"),
        ],
        anonymous,
        anonymous_scopes: vec!["subscribe:public".into()],
        ..AuthOptions::default()
    });
    Bed {
        _dir: dir,
        good: format!("Bearer {}", token.text.reveal()),
        authenticator: authenticator.unwrap(),
    }
}

fn peer(address: &str, certificate: Option<&str>) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        security: Security::Tls,
        certificate: certificate.map(Into::into),
        leaving: CancellationToken::new(),
        places: crate::layers::Places::default(),
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(value).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

type Found = Result<(String, Identity), Refusal>;

impl Bed {
    async fn who(&self, peer: &Peer, pairs: &[(&'static str, &str)]) -> Found {
        let found = self
            .authenticator
            .identify(&headers(pairs), Some(peer))
            .await;
        found.map(|caller| (caller.principal.to_string(), caller.identity))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as it is compared")]
fn is(name: &str, identity: Identity) -> Found {
    Ok((name.into(), identity))
}

#[tokio::test]
async fn a_token_goes_before_a_proxys_word_and_that_before_a_certificate() {
    let bed = bed(Anonymous::Refused);
    let (good, bad) = (bed.good.as_str(), "Bearer rf_a_b");
    let forwarded = (XFCC, "URI=spiffe://pi17");
    let (plain, certified) = (
        peer("1.2.3.4:5", None),
        peer("1.2.3.4:5", Some("certified")),
    );
    let (proxy, envoy) = (peer("10.2.3.4:5", None), peer("1.2.3.4:5", Some("envoy")));
    let tokened = is("tokened", Identity::Token);
    let by_proxy = is("spiffe://pi17", Identity::Forwarded);
    let refused = Err(Refusal::UnknownToken);
    for (peer, pairs, found) in [
        (&plain, vec![], Err(Refusal::NoCredentials)),
        (&plain, vec![("authorization", good)], tokened.clone()),
        (&plain, vec![("authorization", bad)], refused.clone()),
        (&plain, vec![forwarded], Err(Refusal::NoCredentials)),
        (&certified, vec![], is("certified", Identity::Certificate)),
        (&certified, vec![("authorization", good)], tokened.clone()),
        (&certified, vec![("authorization", bad)], refused.clone()),
        (
            &certified,
            vec![forwarded],
            is("certified", Identity::Certificate),
        ),
        (&proxy, vec![], Err(Refusal::NoCredentials)),
        (&proxy, vec![forwarded], by_proxy.clone()),
        (&proxy, vec![(XFCC, "Hash=0a")], Err(Refusal::Forwarded)),
        (&proxy, vec![forwarded, ("authorization", good)], tokened),
        (&proxy, vec![forwarded, ("authorization", bad)], refused),
        (&envoy, vec![forwarded], by_proxy),
        (&envoy, vec![], is("envoy", Identity::Certificate)),
    ] {
        assert_eq!(bed.who(peer, &pairs).await, found, "{peer:?} {pairs:?}");
    }
}

#[tokio::test]
async fn only_one_bearer_token_is_one() {
    let bed = bed(Anonymous::Allowed);
    let plain = peer("1.2.3.4:5", None);
    let good = bed.good.as_str();
    let lower = good.replace("Bearer", "bearer");
    let found = bed.who(&plain, &[("authorization", &lower)]).await;
    assert_eq!(found, is("tokened", Identity::Token));
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        good.trim_start_matches("Bearer "),
        "Bearer a.b.c",
    ] {
        let found = bed.who(&plain, &[("authorization", bad)]).await;
        assert_eq!(found, Err(Refusal::Malformed), "{bad}");
    }
    let twice = [("authorization", good), ("authorization", good)];
    assert_eq!(bed.who(&plain, &twice).await, Err(Refusal::Malformed));
}

#[tokio::test]
async fn scopes_of_certificates_and_proxies_are_granted() {
    let bed = bed(Anonymous::Refused);
    let certified = peer("1.2.3.4:5", Some("certified"));
    let caller = bed
        .authenticator
        .identify(&HeaderMap::new(), Some(&certified))
        .await;
    assert!(caller.unwrap().scopes.allow_all_of(Action::Ingest, "c"));
    let proxy = peer("10.2.3.4:5", None);
    let forwarded = headers(&[(XFCC, "URI=spiffe://pi17")]);
    let caller = bed.authenticator.identify(&forwarded, Some(&proxy)).await;
    assert!(caller.unwrap().scopes.allow_all_of(Action::Ingest, "f"));
    let stranger = peer("1.2.3.4:5", Some("stranger"));
    let caller = bed
        .authenticator
        .identify(&HeaderMap::new(), Some(&stranger))
        .await;
    assert_eq!(caller.unwrap().scopes, Scopes::nothing());
}

#[tokio::test]
async fn without_credentials_one_may_what_is_allowed_to_anybody() {
    let allowed = bed(Anonymous::Allowed);
    let plain = peer("1.2.3.4:5", None);
    let found = allowed.who(&plain, &[]).await;
    assert_eq!(found, is("anonymous", Identity::Anonymous));
    let bad = allowed
        .who(&plain, &[("authorization", "Bearer rf_a_b")])
        .await;
    assert_eq!(bad, Err(Refusal::UnknownToken));

    let nowhere = AuthOptions {
        anonymous_scopes: vec!["*:*".into()],
        ..AuthOptions::default()
    };
    let open = Authenticator::new(nowhere).unwrap();
    let shown = headers(&[("authorization", "Bearer x"), (XFCC, "URI=a")]);
    let certified = peer("10.2.3.4:5", Some("certified"));
    for (headers, peer) in [(&HeaderMap::new(), None), (&shown, Some(&certified))] {
        let caller = open.identify(headers, peer).await.unwrap();
        assert_eq!(caller.identity, Identity::Anonymous);
        assert_eq!(caller.scopes, Scopes::everything());
    }
}
