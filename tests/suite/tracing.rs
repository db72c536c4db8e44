//! One trace from the client through the server to the disk, and the delivery that links to it; the
//! same request id in output, log and error details. Against a collector of the test's own.

use std::process::Stdio;

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use ringfeed::proto::v1::{GetFeedRequest, start::From};
use tokio::{net::TcpListener, process::Command, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Follow, MIB, Server, Setup, feed_exists, number, one, plain, until, upload, within,
};

/// A collector that hands on each span, with the name of its service.
struct Collector {
    endpoint: String,
    arrived: mpsc::Receiver<(String, Span)>,
    spans: Vec<(String, Span)>,
}

struct Service(mpsc::Sender<(String, Span)>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_service in request.into_inner().resource_spans {
            let attributes = of_service.resource.unwrap().attributes;
            let name = attributes.iter().find(|a| a.key == "service.name").unwrap();
            let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else {
                panic!("{name:?}");
            };
            for span in of_service.scope_spans.into_iter().flat_map(|s| s.spans) {
                self.0.send((service.clone(), span)).await.unwrap();
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (send, arrived) = mpsc::channel(1_024);
        let service = TraceServiceServer::new(Service(send));
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            endpoint,
            arrived,
            spans: vec![],
        }
    }

    /// The span of that service for which `is` holds, once it came.
    async fn span(&mut self, service: &str, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        loop {
            let mut known = self.spans.iter();
            if let Some((_, span)) = known.find(|(of, span)| of == service && is(span)) {
                return span.clone();
            }
            let next = within(what, self.arrived.recv()).await;
            self.spans.push(next.unwrap());
        }
    }
}

fn attribute(span: &Span, name: &str) -> Option<Value> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|a| a.key == name)?;
    found.value.clone()?.value
}

fn text(value: &str) -> Option<Value> {
    Some(Value::StringValue(value.into()))
}

struct Ran {
    code: i32,
    err: String,
}

async fn ringfeed(server: &Server, args: &[&str]) -> Ran {
    let command = Command::new(env!("CARGO_BIN_EXE_ringfeed"))
        .args(args)
        .env("RINGFEED_ENDPOINT", format!("http://{}", server.address()))
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("the command", command).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const FILE: &str = "fixtures/sensor_midc_bms_20181018.csv";

#[tokio::test]
async fn one_trace_goes_from_the_client_to_the_disk_and_the_delivery_links_to_it() {
    let mut collector = Collector::start().await;
    let setup = Setup::new().with("trace__otlp_endpoint", &collector.endpoint);
    let server = setup.start().await;
    feed_exists(&mut server.catalog().await, "t", MIB).await;
    let mut feeds = server.feeds().await;
    let follow = one("t", From::Offset(0), None);
    let mut follow = Follow::open(&mut feeds, follow).await.unwrap();
    let endpoint = ["--otlp-endpoint", &collector.endpoint];
    let ran = ringfeed(
        &server,
        &[&["ingest", "t", "--file", FILE], &endpoint[..]].concat(),
    )
    .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    follow.read_until(|l| !l[0].records.is_empty()).await;
    drop(follow);

    let name = "ringfeed.v1.FeedService/Ingest";
    let client = collector
        .span("ringfeed-cli", "the client's span", |s| s.name == name)
        .await;
    assert_eq!(client.kind, SpanKind::Client as i32);
    assert!(client.parent_span_id.is_empty());
    let trace = client.trace_id.clone();
    let below = |parent: &Span, name: &'static str| {
        let (trace, parent) = (trace.clone(), parent.span_id.clone());
        move |s: &Span| s.name == name && s.trace_id == trace && s.parent_span_id == parent
    };
    let call = collector
        .span("ringfeed", "the server's span", below(&client, name))
        .await;
    assert_eq!(call.kind, SpanKind::Server as i32);
    assert_eq!(attribute(&call, "rpc.system"), text("grpc"));
    assert_eq!(
        attribute(&call, "rpc.service"),
        text("ringfeed.v1.FeedService")
    );
    assert_eq!(attribute(&call, "rpc.method"), text("Ingest"));
    assert_eq!(
        attribute(&call, "rpc.grpc.status_code"),
        Some(Value::IntValue(0))
    );
    let id = attribute(&client, "ringfeed.request_id");
    assert!(id.is_some() && attribute(&call, "ringfeed.request_id") == id);
    let append = collector
        .span("ringfeed", "append", below(&call, "append"))
        .await;
    let flush = collector
        .span("ringfeed", "flush", below(&append, "flush"))
        .await;
    assert!(append.start_time_unix_nano <= flush.start_time_unix_nano);
    assert!(flush.end_time_unix_nano <= append.end_time_unix_nano);

    let name = "ringfeed.v1.FeedService/Subscribe";
    let subscriber = collector
        .span("ringfeed", "the stream's span", |s| s.name == name)
        .await;
    let links = |s: &Span| {
        let mut links = s.links.iter();
        links.any(|l| l.trace_id == client.trace_id && l.span_id == client.span_id)
    };
    let deliver = |s: &Span| s.name == "deliver" && links(s);
    let deliver = collector.span("ringfeed", "the delivery", deliver).await;
    assert_eq!(deliver.trace_id, subscriber.trace_id);
    assert_eq!(deliver.parent_span_id, subscriber.span_id);
    assert_ne!(deliver.trace_id, client.trace_id);
    server.sigterm().await;
}

#[tokio::test]
async fn what_is_not_sampled_makes_no_span_and_what_the_caller_samples_does() {
    let mut collector = Collector::start().await;
    let setup = Setup::new()
        .with("trace__otlp_endpoint", &collector.endpoint)
        .with("trace__sample", "0.0");
    let server = setup.start().await;
    let mut catalog = server.catalog().await;
    feed_exists(&mut catalog, "t", MIB).await;
    upload(
        &mut server.feeds().await,
        vec![plain("t", vec![number("k", 1)])],
    )
    .await
    .unwrap();
    let mut sampled = Request::new(GetFeedRequest { name: "t".into() });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    sampled
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    let answer = catalog.get_feed(sampled).await.unwrap();
    let span = collector
        .span("ringfeed", "the sampled call", |_| true)
        .await;
    assert_eq!(span.name, "ringfeed.v1.CatalogService/GetFeed");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
    let told = answer.metadata().get("traceresponse").unwrap();
    let expected = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    assert_eq!(told.to_str().unwrap(), expected);
    // At the end all that there was goes out.
    server.sigterm().await;
    assert!(collector.arrived.try_recv().is_err());
}

/// The line about the end of a call, once it was written.
async fn line_of(server: &Server, request_id: &str) -> serde_json::Value {
    let find = || {
        let log = server.log();
        let lines = log.lines().filter_map(|l| serde_json::from_str(l).ok());
        let mut lines = lines.map(|mut l: serde_json::Value| l["fields"].take());
        lines.find(|l| l["message"] == "call ended" && l["request_id"] == request_id)
    };
    until("the line in the log", async || find().is_some()).await;
    find().unwrap()
}

#[tokio::test]
async fn output_log_and_details_name_the_same_request() {
    let server = Server::start().await;
    let ran = ringfeed(&server, &["feeds", "--verbose", "get", "nowhere"]).await;
    assert_eq!(ran.code, 1, "{}", ran.err);
    let id = ran.err.trim_end().strip_suffix(')').unwrap();
    let id = id.rsplit_once("(request ").unwrap().1;
    assert!(
        ran.err
            .lines()
            .any(|l| l.contains("calling") && l.contains(id)),
        "{}",
        ran.err
    );
    let line = line_of(&server, id).await;
    assert_eq!(line["rpc"], "GetFeed");
    assert_eq!(line["code"], "NOT_FOUND");
    assert_eq!(line["reason"], "UNKNOWN_FEED");
    assert_eq!(line["ended_by"], "error");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    // The session is the same for all calls of a process.
    assert!(line["session_id"].is_string());

    let mut catalog = server.catalog().await;
    let mut request = Request::new(GetFeedRequest {
        name: "nowhere".into(),
    });
    request
        .metadata_mut()
        .insert("x-request-id", "my-own.1".parse().unwrap());
    let status = catalog.get_feed(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "my-own.1");
    let details = status.get_details_request_info().unwrap();
    assert_eq!(details.request_id, "my-own.1");
    assert_eq!(line_of(&server, "my-own.1").await["code"], "NOT_FOUND");
}

/// One request to the metrics listener; the status and what it said.
async fn http(server: &Server, request: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.metrics_address())
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.trim_end().to_owned())
}

fn put(host: &str, level: &str, more: &str) -> String {
    let len = level.len();
    format!(
        "PUT /log-level HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}content-length: {len}\r\n\r\n{level}"
    )
}

#[tokio::test]
async fn the_level_of_the_log_changes_while_the_server_runs() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "[log]\nlevel = \"warn,ringfeed::cli=info\"\n").unwrap();
    let setup = Setup::new().with("config", file.path().display());
    let server = setup.start().await;
    let mut catalog = server.catalog().await;
    let mut ask = async |id: &str| {
        let mut request = Request::new(GetFeedRequest {
            name: "nowhere".into(),
        });
        request
            .metadata_mut()
            .insert("x-request-id", id.parse().unwrap());
        catalog.get_feed(request).await.unwrap_err();
    };
    ask("silent").await;
    let get = "GET /log-level HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(http(&server, get).await.1, "warn,ringfeed::cli=info");
    let local = |level: &str| put("localhost", level, "");
    let set = http(&server, &local("info")).await;
    assert_eq!(set, (200, "info".into()));
    ask("said").await;
    line_of(&server, "said").await;
    assert!(!server.log().contains("\"silent\""));

    let (status, text) = http(&server, &local("ringfeed=loud")).await;
    assert_eq!(status, 400, "{text}");
    // A web page cannot, not even one of this very address.
    for (host, more) in [
        ("localhost", "origin: http://localhost\r\n"),
        ("localhost", "origin: http://evil.example\r\n"),
        // Its own name was made to point here.
        ("evil.example", ""),
    ] {
        let (status, _) = http(&server, &put(host, "trace", more)).await;
        assert_eq!(status, 403, "{host} {more}");
    }
    assert_eq!(http(&server, get).await.1, "info");

    std::fs::write(&file, "[log]\nlevel = \"debug,h2=warn\"\n").unwrap();
    server.hang_up();
    let told = async || server.log().contains("the settings were read again");
    until("the settings", told).await;
    assert_eq!(http(&server, get).await.1, "debug,h2=warn");
}
