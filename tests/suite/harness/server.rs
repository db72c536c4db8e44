//! The real binary as a child process: started, killed, stopped, started again on its data.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;
use ringfeed::proto::v1::{
    catalog_service_client::CatalogServiceClient, feed_service_client::FeedServiceClient,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};
use tonic::transport::{Channel, ClientTlsConfig, Error};

use super::{Pair, within};

/// How to start a server, as often as wanted on the same data.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Removed with the last holder.
    home: Arc<TempDir>,
    data: PathBuf,
    env: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let home = Arc::new(TempDir::with_prefix("ringfeed-suite-").unwrap());
        let data = home.path().join("data");
        Self {
            home,
            data,
            env: vec![],
        }
    }

    /// Sets an entry of the settings: `limits__feeds`.
    pub(crate) fn with(mut self, entry: &str, value: impl ToString) -> Self {
        let name = format!("RINGFEED_{}", entry.to_uppercase());
        self.env.push((name, value.to_string()));
        self
    }

    /// Serves TLS with this certificate.
    pub(crate) fn tls(self, pair: &Pair) -> Self {
        let (cert, key) = pair.write(self.home());
        let (cert, key) = (cert.display(), key.display());
        self.with("tls__cert", cert).with("tls__key", key)
    }

    /// Asks clients for certificates of this authority, in PEM.
    pub(crate) fn client_ca(self, pem: &str) -> Self {
        let path = self.home().join("clients.pem");
        std::fs::write(&path, pem).unwrap();
        self.with("tls__client_ca", path.display())
    }

    /// Keeps the data elsewhere.
    pub(crate) fn at(mut self, data: &Path) -> Self {
        self.data = data.to_owned();
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Bytes of the files in the data directory, as the disk counts them.
    pub(crate) fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.data)
    }

    pub(crate) async fn start(&self) -> Server {
        let server = self.spawn().await;
        server.unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    async fn spawn(&self) -> Result<Server, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfeed"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RINGFEED_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--metrics-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data)
            .env("RINGFEED_LOG__FORMAT", "json")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap().into_owned_fd().unwrap();
        let serving = listen_to(stderr.into(), Arc::clone(&log));
        let waited = tokio::task::spawn_blocking(move || serving.recv());
        match within("the server's start", waited).await.unwrap() {
            Ok((address, metrics)) => Ok(Server {
                setup: self.clone(),
                child,
                log,
                address,
                metrics,
            }),
            Err(_ended) => Err(log.lock().clone()),
        }
    }
}

fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    // Files may go while they are counted.
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_gone) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Collects the log, and sends the addresses once they are in it.
fn listen_to(
    stderr: std::fs::File,
    log: Arc<Mutex<String>>,
) -> mpsc::Receiver<(SocketAddr, SocketAddr)> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let serving = serving_line(&line);
            let mut log = log.lock();
            log.push_str(&line);
            log.push('\n');
            drop(log);
            // Whoever waits for it finds the line in the log.
            if let Some(addresses) = serving {
                let _unwanted = send.try_send(addresses);
            }
        }
    });
    receive
}

fn serving_line(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields")?;
    let address = |name| fields.get(name)?.as_str()?.parse().ok();
    (fields.get("message")? == "serving").then_some((address("address")?, address("metrics")?))
}

/// A server that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    child: Child,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Server {
    /// One with the defaults.
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything the server logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// A connection of its own with tonic's defaults.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// A connection of its own with TLS.
    pub(crate) async fn tls_channel(&self, tls: ClientTlsConfig) -> Result<Channel, Error> {
        let endpoint = Channel::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls)?.connect().await
    }

    pub(crate) async fn feeds(&self) -> FeedServiceClient<Channel> {
        FeedServiceClient::new(self.channel().await)
    }

    pub(crate) async fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel().await)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill9(mut self) -> Setup {
        self.child.kill().await.unwrap();
        self.setup.clone()
    }

    /// `kill -9`, with calls still open.
    pub(crate) fn kill_now(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within("the server's end", self.child.wait()).await.unwrap()
    }

    /// SIGTERM, and waits for the end, which has to be a good one.
    pub(crate) async fn sigterm(self) -> Setup {
        self.terminate();
        self.sigterm_done().await
    }

    /// Waits for the good end of a server that was told to stop.
    pub(crate) async fn sigterm_done(mut self) -> Setup {
        let status = self.ended().await;
        assert!(status.success(), "{status}\n{}", self.log());
        self.setup.clone()
    }

    pub(crate) async fn restart(self) -> Self {
        self.sigterm().await.start().await
    }

    /// Resident bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap();
        kib * 1024
    }

    /// The metrics of now.
    pub(crate) async fn scrape(&self) -> Scrape {
        scrape_of(self.metrics).await.unwrap()
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server said:\n{}---", self.log());
        }
    }
}

/// Values by name and labels as they stand in the scrape.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// A value by name and some labels, `rpc="Ingest"` each; 0 when it is not there.
    pub(crate) fn get(&self, name: &str, labels: &[&str]) -> f64 {
        let named = |line: &str| line.split('{').next() == Some(name);
        let wanted = |(line, _): &(&String, &f64)| {
            named(line) && labels.iter().all(|label| line.contains(label))
        };
        self.0.iter().filter(wanted).map(|(_, value)| value).sum()
    }

    pub(crate) fn of_feed(&self, name: &str, feed: &str) -> f64 {
        self.get(name, &[&format!("feed=\"{feed}\"")])
    }
}

/// Scrapes a metrics listener with plain HTTP.
pub(crate) async fn scrape_of(address: SocketAddr) -> std::io::Result<Scrape> {
    let answer = scraped(address).await?;
    let lines = answer
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '));
    let values = lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    Ok(Scrape(values.collect()))
}

/// The answer as it comes, head and all.
pub(crate) async fn scraped(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await??;
    Ok(answer)
}
