//! One connection's life: a handshake, a first request within its time, requests, and an end that
//! is said before it comes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::future::RouteFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    config::LimitsConfig,
    gather::Gather,
    seats::{Lobby, Newcomer},
    tls::Tls,
};
use crate::{
    layers::{Peer, Security, StreamExecutor, certificate_name, cuttable},
    metrics,
};

/// Small frames that no handler has read yet are charged against half of the connection's window:
/// about five times a stream's window for each upload of tiny messages that waits for the disk. So
/// the first is large and the second small, and a dozen uploads can share a connection.
const CONNECTION_WINDOW: u32 = 64 << 20;
const STREAM_WINDOW: u32 = 256 << 10;
const MAX_FRAME: u32 = 64 << 10;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What HTTP/1 reads into holds a request's headers; hyper wants it this large at least.
const MIN_BUFFER: usize = 8 << 10;
/// Streams that were reset before anybody took them up. Somebody who closes a page of charts resets
/// dozens at once; who goes on beyond this is no client.
const MAX_PENDING_RESETS: usize = 200;
/// Streams this server reset because of what came over them.
const MAX_ERROR_RESETS: usize = 1_024;
/// For streams to end on a connection that is at its greatest age.
const AGED_GRACE: Duration = Duration::from_secs(30);

/// How far the server's stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    No,
    /// Connections take no new streams, and end with their last one.
    Drain,
    /// What is still open is dropped.
    Cut,
}

/// What all connections share.
pub(super) struct Shared {
    router: Router,
    http: auto::Builder<StreamExecutor>,
    tls: Option<Arc<Tls>>,
    lobby: Arc<Lobby>,
    handshake_timeout: Duration,
    first_request_timeout: Duration,
    max_age: Option<Duration>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(router: Router, tls: Option<Arc<Tls>>, limits: &LimitsConfig) -> Self {
        Self {
            router,
            http: protocol(limits),
            tls,
            // Half of the places are for those who have asked for something.
            lobby: Lobby::new(limits.connections.div_ceil(2)),
            handshake_timeout: limits.handshake_timeout.0,
            first_request_timeout: limits.first_request_timeout.0,
            max_age: limits.connection_max_age.map(|age| age.0),
        }
    }
}

fn protocol(limits: &LimitsConfig) -> auto::Builder<StreamExecutor> {
    let header_bytes = u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX);
    let mut http = auto::Builder::new(StreamExecutor);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.first_request_timeout.0)
        .max_buf_size((header_bytes as usize).max(MIN_BUFFER));
    http.http2()
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(header_bytes)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    http
}

/// Serves a connection until it ends or the server does.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    stop: watch::Receiver<Stop>,
) {
    // Without Nagle's delay; a peer that is gone already is no error.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was taken");
    }
    let newcomer = shared.lobby.enter();
    let Some(tls) = &shared.tls else {
        let peer = peer(address, Security::Plaintext, None);
        return cuttable(live(&shared, stream, peer, newcomer, stop)).await;
    };
    let Some(stream) = handshake(&shared, tls, stream, &newcomer).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates();
    let certificate = shown.and_then(|chain| certificate_name(chain.first()?));
    let peer = peer(address, Security::Tls, certificate);
    cuttable(live(&shared, stream, peer, newcomer, stop)).await;
}

fn peer(
    address: SocketAddr,
    security: Security,
    certificate: Option<crate::model::Principal>,
) -> Peer {
    let leaving = CancellationToken::new();
    Peer {
        address,
        security,
        certificate,
        leaving,
        places: crate::layers::Places::default(),
    }
}

async fn handshake(
    shared: &Shared,
    tls: &Tls,
    stream: TcpStream,
    newcomer: &Newcomer,
) -> Option<TlsStream<TcpStream>> {
    let until = Instant::now() + shared.handshake_timeout;
    let shaken = tokio::select! {
        shaken = timeout_at(until, tls.accept(stream)) => shaken,
        () = newcomer.away.cancelled() => {
            metrics::count_connection_refused("crowded");
            return None;
        }
    };
    match shaken {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            metrics::count_handshake_failure();
        }
        Err(_elapsed) => metrics::count_connection_refused("handshake_timeout"),
    }
    None
}

/// From the first byte of HTTP to the last.
async fn live<S>(
    shared: &Shared,
    stream: S,
    peer: Peer,
    newcomer: Newcomer,
    mut stop: watch::Receiver<Stop>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Open::new(peer.security);
    let leaving = peer.leaving.clone();
    let asked = Arc::new(Asked::default());
    let service = Requests {
        router: shared.router.clone(),
        peer,
        asked: Arc::clone(&asked),
    };
    let io = TokioIo::new(Gather::new(stream));
    let mut connection = pin!(shared.http.serve_connection(io, service));
    let in_time = tokio::select! {
        ended = &mut connection => return ended_by_itself(ended),
        in_time = first_request(shared, &asked, newcomer) => in_time,
        _ = stop.wait_for(|stop| *stop > Stop::No) => Ok(()),
    };
    if let Err(reason) = in_time {
        return metrics::count_connection_refused(reason);
    }
    let aged = tokio::select! {
        ended = &mut connection => return ended_by_itself(ended),
        () = old_age(shared.max_age) => true,
        _ = stop.wait_for(|stop| *stop > Stop::No) => false,
    };
    // GOAWAY first: who comes back with a resume token takes another connection.
    connection.as_mut().graceful_shutdown();
    if aged {
        metrics::count_connection_ended("aged");
        leaving.cancel();
    }
    tokio::select! {
        ended = &mut connection => ended_by_itself(ended),
        () = sleep(AGED_GRACE), if aged => metrics::count_connection_ended("cut"),
        _ = stop.wait_for(|stop| *stop == Stop::Cut) => metrics::count_connection_ended("cut"),
    }
}

/// Comes back with the first request, or with why there was none.
async fn first_request(
    shared: &Shared,
    asked: &Asked,
    newcomer: Newcomer,
) -> Result<(), &'static str> {
    tokio::select! {
        biased;
        () = asked.first.notified() => Ok(()),
        () = newcomer.away.cancelled() => Err("crowded"),
        () = sleep(shared.first_request_timeout) => Err("first_request_timeout"),
    }
}

fn ended_by_itself(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
        metrics::count_connection_ended("protocol");
    }
}

/// Comes back when a connection is old enough, which no two of one start are at the same time.
async fn old_age(max_age: Option<Duration>) {
    let Some(max_age) = max_age else {
        return std::future::pending().await;
    };
    sleep_until(Instant::now() + max_age.mul_f64(jitter())).await;
}

/// 0.9 to 1.1.
fn jitter() -> f64 {
    let mut random = [0; 2];
    // Without randomness all are as old as each other.
    let random = getrandom::fill(&mut random).map_or(0x8000, |()| u16::from_le_bytes(random));
    0.9 + 0.2 * f64::from(random) / f64::from(u16::MAX)
}

/// Whether the connection was asked for anything.
#[derive(Debug, Default)]
struct Asked {
    at_all: AtomicBool,
    first: Notify,
}

/// Hands requests to the routes, with the peer they are from.
#[derive(Debug)]
struct Requests {
    router: Router,
    peer: Peer,
    asked: Arc<Asked>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if !self.asked.at_all.swap(true, Relaxed) {
            self.asked.first.notify_one();
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        // A router is ready at any time, and its clones share the routes.
        self.router.clone().call(request)
    }
}

/// Counted as open until it is dropped.
#[derive(Debug)]
struct Open(Security);

impl Open {
    fn new(security: Security) -> Self {
        metrics::add_connection(name(security));
        Self(security)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::remove_connection(name(self.0));
    }
}

fn name(security: Security) -> &'static str {
    match security {
        Security::Plaintext => "plaintext",
        Security::Tls => "tls",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::server::Time;

    /// How long a connection lives whose client asks for nothing more; an hour at most.
    async fn life(client: impl AsyncFnOnce(DuplexStream)) -> Duration {
        let limits = LimitsConfig {
            first_request_timeout: Time(Duration::from_secs(7_200)),
            ..LimitsConfig::default()
        };
        let shared = Shared::new(Router::new(), None, &limits);
        let (here, there) = duplex(64 << 10);
        let peer = peer("127.0.0.1:1".parse().unwrap(), Security::Plaintext, None);
        let (_stops, stop) = watch::channel(Stop::No);
        let begun = Instant::now();
        tokio::select! {
            () = live(&shared, here, peer, shared.lobby.enter(), stop) => {}
            () = client(there) => panic!("the client ended by itself"),
            () = sleep(Duration::from_secs(3_600)) => {}
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_to_answer_pings_is_dropped_and_no_other() {
        let silent = async |mut stream: DuplexStream| {
            let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            stream.write_all(begin).await.unwrap();
            // It reads, and says nothing.
            let mut said = vec![];
            stream.read_to_end(&mut said).await.unwrap();
            std::future::pending::<()>().await;
        };
        let alive = async |stream| {
            let (_client, connection) = h2::client::handshake(stream).await.unwrap();
            connection.await.unwrap();
        };
        assert_eq!(life(silent).await, KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT);
        assert_eq!(life(alive).await, Duration::from_secs(3_600));
    }

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let all: Vec<f64> = (0..1_000).map(|_| jitter()).collect();
        assert!(all.iter().all(|j| (0.9..=1.1).contains(j)));
        let (low, high) = (all.iter().any(|j| *j < 0.95), all.iter().any(|j| *j > 1.05));
        assert!(low && high);
    }
}
