use std::{net::SocketAddr, time::Duration};

use futures_util::FutureExt as _;
use http::Response;
use http_body_util::BodyExt as _;
use tokio::time::advance;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Service as _, service_fn};

use super::*;
use crate::{
    errors::{Reason, reason_of},
    layers::{Caller, Identity, Peer, Rpc, Security, Validity, watched::Watched, witness::Watch},
    model::Scopes,
};

const UNARY: &str = "/ringfeed.v1.FeedService/GetLatest";
const STREAM: &str = "/ringfeed.v1.FeedService/Subscribe";

/// A service behind the layer that answers everything.
struct Bed(RateLimitLayer);

impl Bed {
    fn of_principals(rates: Rates) -> Self {
        Self(RateLimitLayer::new(RateLimits {
            per_principal: rates,
            ..RateLimits::default()
        }))
    }

    fn of_peers(rates: Rates) -> Self {
        Self(RateLimitLayer::new(RateLimits {
            per_peer: rates,
            ..RateLimits::default()
        }))
    }

    /// The status, and the body that keeps a stream open.
    fn ask(&self, path: &'static str, who: &str, address: &str) -> (Status, Body) {
        self.ask_over(path, who, address, crate::layers::Places::default())
    }

    fn ask_over(
        &self,
        path: &'static str,
        who: &str,
        address: &str,
        places: crate::layers::Places,
    ) -> (Status, Body) {
        let mut call = Call::new(Rpc::of_path(path), "");
        call.peer = Some(Peer {
            address: SocketAddr::new(address.parse().unwrap(), 1),
            security: Security::Plaintext,
            certificate: None,
            leaving: tokio_util::sync::CancellationToken::new(),
            places,
        });
        call.identify(Caller {
            principal: who.into(),
            scopes: Scopes::everything(),
            identity: Identity::Token,
            validity: Validity::default(),
        });
        let call = Arc::new(call);
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Arc::clone(&call));
        let watch = Watch::new(call);
        let answer = |_| async { Ok(Response::new(Body::from("answer"))) };
        let mut service = self.0.layer(service_fn(answer));
        let answered = service.call(request).now_or_never().unwrap().unwrap();
        let status = Status::from_header_map(answered.headers());
        let body = Watched::new(answered.into_body(), watch);
        (status.unwrap_or_else(|| Status::ok("")), Body::new(body))
    }

    fn passes(&self, path: &'static str, who: &str) -> bool {
        self.ask(path, who, "10.0.0.1").0.code() == Code::Ok
    }
}

fn calls(calls_per_second: u32) -> Rates {
    Rates {
        calls_per_second,
        ..Rates::default()
    }
}

#[tokio::test(start_paused = true)]
async fn ten_times_the_rate_of_calls_lets_through_the_rate_and_others_see_nothing() {
    let bed = Bed::of_principals(calls(100));
    let (mut mine, mut others, mut asked) = (0, 0, 0);
    for tick in 0..60_000 {
        mine += u32::from(bed.passes(UNARY, "me"));
        // The other one keeps within the rate, to the call.
        if tick % 10 == 0 {
            asked += 1;
            others += u32::from(bed.passes(UNARY, "other"));
        }
        advance(Duration::from_millis(1)).await;
    }
    assert!((5_400..=6_600).contains(&mine), "{mine} of 6,000 allowed");
    assert_eq!(others, asked);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_quota_and_subject_and_the_exact_time() {
    let bed = Bed::of_principals(calls(2));
    assert!(bed.passes(UNARY, "pi17") && bed.passes(UNARY, "pi17"));
    let (status, _) = bed.ask(UNARY, "pi17", "10.0.0.1");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason_of(&status), Some(Reason::RateLimited));
    assert_eq!(
        status.message(),
        "calls per second of principal pi17: 2 are allowed"
    );
    let details = status.get_error_details();
    let violation = &details.quota_failure().unwrap().violations[0];
    let named = (&*violation.subject, &*violation.description);
    assert_eq!(named, ("principal pi17", "calls per second: 2"));
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, Duration::from_millis(500));
    advance(wait - Duration::from_nanos(1)).await;
    assert!(!bed.passes(UNARY, "pi17"), "a little less does not do");
    advance(Duration::from_nanos(1)).await;
    assert!(bed.passes(UNARY, "pi17"));
}

#[tokio::test]
async fn a_stream_counts_until_its_body_is_gone() {
    let bed = Bed::of_principals(Rates {
        streams: 2,
        ..Rates::default()
    });
    let ask = |who| bed.ask(STREAM, who, "10.0.0.1");
    let (first, second) = (ask("me"), ask("me"));
    assert_eq!(second.0.code(), Code::Ok);
    let (refused, _) = ask("me");
    assert_eq!(reason_of(&refused), Some(Reason::StreamLimit));
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(
        refused.message(),
        "open streams of principal me: 2 are allowed"
    );
    assert!(bed.passes(UNARY, "me"), "an open stream is no rate");
    assert_eq!(ask("other").0.code(), Code::Ok);
    // Read to its end it is still held: only the drop counts.
    let mut body = first.1;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    assert_eq!(ask("me").0.code(), Code::ResourceExhausted);
    drop(body);
    assert_eq!(ask("me").0.code(), Code::Ok);
}

#[tokio::test]
async fn a_principal_has_so_many_connections_and_each_counts_once() {
    let bed = Bed::of_principals(Rates {
        connections: 2,
        ..Rates::default()
    });
    let [first, second, third] = [(); 3].map(|()| crate::layers::Places::default());
    let ask =
        |who, over: &crate::layers::Places| bed.ask_over(UNARY, who, "10.0.0.1", over.clone()).0;
    for over in [&first, &second, &first, &second] {
        assert_eq!(ask("me", over).code(), Code::Ok);
    }
    let refused = ask("me", &third);
    assert_eq!(reason_of(&refused), Some(Reason::StreamLimit));
    assert_eq!(
        refused.message(),
        "connections of principal me: 2 are allowed"
    );
    assert_eq!(ask("other", &third).code(), Code::Ok);
    drop(first);
    assert_eq!(ask("me", &third).code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_address_counts_by_its_network() {
    let bed = Bed::of_peers(calls(1));
    let ask = |address| bed.ask(UNARY, address, address).0;
    assert_eq!(ask("2001:db8::1").code(), Code::Ok);
    let refused = ask("2001:db8::2:3:4:5");
    assert_eq!(
        refused.message(),
        "calls per second of address 2001:db8::/64: 1 are allowed"
    );
    assert_eq!(ask("2001:db8:0:1::1").code(), Code::Ok);
    assert_eq!(ask("10.0.0.7").code(), Code::Ok);
    let refused = ask("::ffff:10.0.0.7");
    assert_eq!(
        refused.message(),
        "calls per second of address 10.0.0.7: 1 are allowed"
    );
    assert_eq!(ask("10.0.0.8").code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn what_one_quota_refuses_takes_nothing_of_the_other() {
    let bed = Bed(RateLimitLayer::new(RateLimits {
        per_principal: calls(10),
        per_peer: calls(1),
        ..RateLimits::default()
    }));
    let ask = |address: &str| bed.ask(UNARY, "me", address).0.code() == Code::Ok;
    assert!(ask("10.0.0.1"));
    for _ in 0..100 {
        assert!(!ask("10.0.0.1"));
    }
    let passed = (2..30).filter(|n| ask(&format!("10.0.0.{n}"))).count();
    assert_eq!(passed, 9, "the principal's other calls of this second");
}

#[tokio::test(start_paused = true)]
async fn some_principals_have_rates_of_their_own_and_probes_have_none() {
    let own = Globs::new(&["pi*".to_owned()]).unwrap();
    let bed = Bed(RateLimitLayer::new(RateLimits {
        per_principal: calls(1),
        principals: vec![(own, calls(3))],
        ..RateLimits::default()
    }));
    let passed = |path, who: &str| (0..10).filter(|_| bed.passes(path, who)).count();
    assert_eq!(passed(UNARY, "pi17"), 3);
    assert_eq!(passed(UNARY, "laptop"), 1);
    assert_eq!(passed("/grpc.health.v1.Health/Check", "laptop"), 10);
}

#[tokio::test(start_paused = true)]
async fn addresses_are_forgotten_when_they_are_idle() {
    let bed = Bed::of_peers(calls(10));
    let known = || bed.0.0.as_ref().unwrap().peers.len();
    for n in 0..50_000_u32 {
        let address = Ipv6Addr::from_bits(u128::from(n) << 64).to_string();
        assert_eq!(bed.ask(UNARY, "me", &address).0.code(), Code::Ok);
        // Each is full again after 100 ms: the last 1,000 are not.
        advance(Duration::from_micros(100)).await;
        assert!(known() <= 4_096, "{} after {n}", known());
    }
    advance(Duration::from_secs(60)).await;
    assert_eq!(bed.ask(UNARY, "me", "10.0.0.1").0.code(), Code::Ok);
    assert_eq!(known(), 1);
}
