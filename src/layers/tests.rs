//! The layers that look on, around handlers that end in every way there is.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, Service as _, service_fn};

use super::*;
use crate::{
    errors::{Answer, Reason},
    model::Scopes,
};

const STREAM: &str = "/ringfeed.v1.FeedService/Subscribe";
const UNARY: &str = "/ringfeed.v1.CatalogService/GetFeed";

fn request(path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn peer() -> Peer {
    Peer {
        address: "127.0.0.1:7".parse().unwrap(),
        security: Security::Plaintext,
        certificate: None,
        leaving: CancellationToken::new(),
        places: crate::layers::Places::default(),
    }
}

/// A message of five bytes, then how the stream ends; `None`: never.
fn stream(end: Option<Status>) -> Response<Body> {
    let message = Bytes::from_static(&[0, 0, 0, 0, 5, 1, 2, 3, 4, 5]);
    let frames = tokio_stream::iter([Frame::data(message)]);
    let last = end.map(|status| {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Frame::trailers(trailers)
    });
    let ending: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = match last {
        Some(last) => Box::pin(tokio_stream::iter([last])),
        None => Box::pin(tokio_stream::pending()),
    };
    let frames = frames.chain(ending).map(Ok::<_, Infallible>);
    Response::new(Body::new(StreamBody::new(frames)))
}

fn failed(reason: Reason) -> Status {
    Answer::new(reason, "text").status()
}

/// While there is one subscriber only, `tracing` asks the thread that comes to a line first whether
/// anybody listens, and believes it for all: another test's thread, which has none. So there are two
/// from the beginning on.
fn keep_lines_heard() {
    static TWO: LazyLock<[tracing::Dispatch; 2]> =
        LazyLock::new(|| [(); 2].map(|()| tracing::Dispatch::new(tracing_subscriber::registry())));
    LazyLock::force(&TWO);
}

/// All layers that look on, around `handler`.
async fn call<F>(
    request: Request<Body>,
    handler: impl Fn(Arc<Call>) -> F + Clone + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    keep_lines_heard();
    let service = service_fn(move |request: Request<Body>| {
        let answered = handler(Call::of(request.extensions()));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let flags = FeatureFlags::new([("beta", "ann"), ("all", "*")]).unwrap();
    let trusted: Trusted = Arc::new(|peer| peer.address.port() == 7);
    let service = AccessLogLayer.layer(DeadlineLayer.layer(service));
    let service = TraceLayer.layer(RpcMetricsLayer::new().layer(service));
    let mut service = RequestContextLayer::new(flags, trusted).layer(service);
    service.call(request).await.unwrap()
}

/// Runs `work` with a recorder of its own; what it recorded.
fn recorded(work: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(work));
    recorder.handle().render()
}

#[test]
fn every_end_of_a_stream_is_counted_as_what_it_was() {
    type End = fn(Arc<Call>) -> Response<Body>;
    let ends: [(EndedBy, Code, End); 10] = [
        (EndedBy::Done, Code::Ok, |_| stream(Some(Status::ok("")))),
        (EndedBy::ServerStop, Code::Ok, |call| {
            call.stopped();
            stream(Some(Status::ok("")))
        }),
        (EndedBy::ServerStop, Code::Unavailable, |_| {
            stream(Some(failed(Reason::Stopping)))
        }),
        (EndedBy::Deadline, Code::DeadlineExceeded, |_| {
            stream(Some(failed(Reason::DeadlineExceeded)))
        }),
        (EndedBy::Slow, Code::Aborted, |_| {
            stream(Some(failed(Reason::SlowSubscriber)))
        }),
        (EndedBy::TokenExpired, Code::Unauthenticated, |_| {
            stream(Some(failed(Reason::TokenExpired)))
        }),
        (EndedBy::TokenExpired, Code::Unauthenticated, |_| {
            stream(Some(failed(Reason::TokenRevoked)))
        }),
        (EndedBy::Fenced, Code::Aborted, |_| {
            stream(Some(failed(Reason::ProducerFenced)))
        }),
        (EndedBy::Error, Code::Internal, |_| {
            Status::internal("").into_http()
        }),
        (EndedBy::ClientGone, Code::Cancelled, |_| stream(None)),
    ];
    assert!(
        EndedBy::ALL
            .iter()
            .all(|by| ends.iter().any(|e| e.0 == *by))
    );
    for (by, code, end) in ends {
        let text = recorded(async {
            let mut answer = call(request(STREAM, &[]), move |c| async move { end(c) }).await;
            while by != EndedBy::ClientGone
                && let Some(frame) = answer.body_mut().frame().await
            {
                frame.unwrap();
            }
        });
        let code = crate::errors::code_name(code);
        for line in [
            format!(
                "ringfeed_streams_ended_total{{rpc=\"Subscribe\",reason=\"{}\"}} 1",
                by.name()
            ),
            format!("ringfeed_rpc_handled_total{{rpc=\"Subscribe\",code=\"{code}\"}} 1"),
            "ringfeed_rpc_started_total{rpc=\"Subscribe\"} 1".to_owned(),
            "ringfeed_streams_open{rpc=\"Subscribe\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{by:?}: {line}\n{text}");
        }
    }
}

#[test]
fn a_client_that_leaves_at_its_deadline_left_because_of_it() {
    let text = recorded(async {
        let timed = request(STREAM, &[("grpc-timeout", "1S")]);
        let answer = call(timed, |_| async { stream(None) }).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(answer);
    });
    assert!(text.contains("reason=\"deadline\"} 1"), "{text}");
}

#[test]
fn a_client_that_leaves_before_its_answer_is_counted_as_gone() {
    let text = recorded(async {
        let mut never = Box::pin(call(request(STREAM, &[]), |_| std::future::pending()));
        assert!((&mut never).now_or_never().is_none());
    });
    for line in [
        "ringfeed_streams_ended_total{rpc=\"Subscribe\",reason=\"client_gone\"} 1",
        "ringfeed_streams_open{rpc=\"Subscribe\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn what_passes_is_counted_while_the_stream_runs() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let mut answer = call(request(STREAM, &[]), |_| async { stream(None) }).await;
            answer.body_mut().frame().await.unwrap().unwrap();
            let text = recorder.handle().render();
            for line in [
                "ringfeed_rpc_sent_messages_total{rpc=\"Subscribe\"} 1",
                "ringfeed_rpc_sent_bytes_total{rpc=\"Subscribe\"} 10",
                "ringfeed_streams_open{rpc=\"Subscribe\"} 1",
            ] {
                assert!(text.lines().any(|l| l == line), "{line}\n{text}");
            }
        });
    });
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_is_answered_at_its_deadline_and_a_stream_is_not() {
    let begun = tokio::time::Instant::now();
    let timed = |path| request(path, &[("grpc-timeout", "1500m")]);
    let answer = call(timed(UNARY), |_| std::future::pending());
    // The clock is paused: nobody waits so long.
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    let answer = answer.expect("it is answered");
    assert_eq!(begun.elapsed(), Duration::from_millis(1_500));
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DEADLINE_EXCEEDED");
    let id = answer.headers()["x-request-id"].to_str().unwrap();
    assert_eq!(details.request_info().unwrap().request_id, id);

    let answer = call(timed(STREAM), |call| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let over = call.over(&CancellationToken::new()).await;
        assert_eq!(over, Over::Failed(Reason::DeadlineExceeded));
        stream(over.failure())
    });
    let body = answer.await.into_body().collect().await.unwrap();
    let status = Status::from_header_map(body.trailers().unwrap()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.get_details_request_info().is_some());
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn the_context_is_in_the_call_and_goes_on_with_it() {
    let sent = [
        ("x-request-id", "req-1"),
        ("x-session-id", "session-1"),
        ("x-user-id", "user-1"),
        ("x-feature-flags", "beta,all,none"),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("baggage", "k=v"),
    ];
    let mut request = request(UNARY, &sent);
    request.extensions_mut().insert(peer());
    let answer = call(request, |call| async move {
        let mut caller = Caller::anonymous(Scopes::everything());
        caller.principal = "bob".into();
        call.identify(caller);
        assert!(call.has_flag("all") && !call.has_flag("beta") && !call.has_flag("none"));
        let mut headers = HeaderMap::new();
        call.pass_on(&mut headers);
        let mut response = stream(Some(Status::ok("")));
        *response.headers_mut() = headers;
        response
    });
    let answer = answer.await;
    let said = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    for (name, value) in sent.iter().filter(|(name, _)| *name != "x-feature-flags") {
        assert_eq!(said(name), *value);
    }
    assert_eq!(said("x-feature-flags"), "all");
    assert_eq!(said("x-feature-flags-ignored"), "beta,none");
}

#[tokio::test]
async fn a_user_is_only_taken_from_a_trusted_peer() {
    for (port, expected) in [(7, Some("user-1")), (8, None)] {
        let mut request = request(UNARY, &[("x-user-id", "user-1")]);
        let mut peer = peer();
        peer.address.set_port(port);
        request.extensions_mut().insert(peer);
        let handler = move |call: Arc<Call>| async move {
            assert_eq!(call.told.user.as_deref(), expected);
            stream(Some(Status::ok("")))
        };
        call(request, handler).await;
    }
    let untold = call(
        request(UNARY, &[("x-user-id", "user-1")]),
        |call| async move {
            assert_eq!(call.told.user, None);
            stream(Some(Status::ok("")))
        },
    );
    untold.await;
}

/// What a subscriber of the log wrote.
fn logged(work: impl FnOnce()) -> Vec<serde_json::Value> {
    let lines = Arc::new(parking_lot::Mutex::new(vec![]));
    let writer = Arc::clone(&lines);
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || Writer(Arc::clone(&writer)))
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.lock().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

struct Writer(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_says_all_of_a_call_and_nothing_secret() {
    let lines = logged(|| {
        recorded(async {
            let sent = [
                ("x-request-id", "req-1"),
                ("x-session-id", "session-1"),
                ("x-user-id", "user-1"),
                ("traceparent", PARENT),
                ("baggage", "k=hidden"),
                ("authorization", "Bearer hidden"),
            ];
            let mut request = request(STREAM, &sent);
            request.extensions_mut().insert(peer());
            let answer = call(request, |call| async move {
                call.identify(Caller::anonymous(Scopes::everything()));
                tracing::info!("inside");
                stream(Some(failed(Reason::SlowSubscriber)))
            });
            answer.await.into_body().collect().await.unwrap();
        });
    });
    let line = |message| {
        lines
            .iter()
            .find(|l| l["fields"]["message"] == message)
            .unwrap()
    };
    let (inside, ended) = (line("inside"), line("call ended"));
    assert_eq!(inside["span"]["request_id"], "req-1");
    assert_eq!(
        inside["span"]["trace_id"],
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(ended["level"], "INFO");
    for (name, value) in [
        ("rpc", "Subscribe"),
        ("code", "ABORTED"),
        ("reason", "SLOW_SUBSCRIBER"),
        ("ended_by", "slow"),
        ("principal", "anonymous"),
        ("peer", "127.0.0.1:7"),
        ("request_id", "req-1"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("session_id", "session-1"),
        ("user_id", "user-1"),
    ] {
        assert_eq!(ended["fields"][name], value, "{name}");
    }
    assert_eq!(ended["fields"]["sent_messages"], 1);
    assert_eq!(ended["fields"]["sent_bytes"], 10);
    assert!(ended["fields"]["seconds"].is_number());
    assert!(!format!("{lines:?}").contains("hidden"));
}

#[test]
fn faults_are_warnings_and_probes_are_quiet() {
    let level = |path: &'static str, end: fn() -> Response<Body>| {
        let lines = logged(|| {
            recorded(async {
                let answer = call(request(path, &[]), move |_| async move { end() }).await;
                drop(answer.into_body().collect().await);
            });
        });
        lines.last().unwrap()["level"].clone()
    };
    let ok = || stream(Some(Status::ok("")));
    assert_eq!(level(UNARY, ok), "INFO");
    assert_eq!(level("/grpc.health.v1.Health/Check", ok), "DEBUG");
    assert_eq!(
        level(UNARY, || failed(Reason::StoreFailed).into_http()),
        "WARN"
    );
    assert_eq!(
        level(UNARY, || failed(Reason::Stopping).into_http()),
        "INFO"
    );
    assert_eq!(
        level(UNARY, || failed(Reason::UnknownFeed).into_http()),
        "INFO"
    );
    assert_eq!(level(UNARY, || Status::internal("").into_http()), "WARN");
}
