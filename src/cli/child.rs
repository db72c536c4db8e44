//! A server of our own: a child process, so that it can be killed and measured like any other.
//! For the demo and the bench.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(15);
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

#[derive(Debug)]
pub(super) struct ServerChild {
    child: Child,
    pub addresses: Addresses,
}

impl ServerChild {
    /// Starts a server, with `flags` of `serve` on top of `settings` from the environment, and
    /// waits until it serves.
    pub(super) async fn start(
        dir: &Path,
        addresses: Addresses,
        flags: &[&str],
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program to start its server")?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--data-dir")
            .arg(dir)
            .arg("--listen")
            .arg(addresses.grpc.to_string())
            .arg("--metrics-listen")
            .arg(addresses.metrics.to_string())
            .args(flags)
            .env("RINGFEED_LOG__FORMAT", "json")
            .env("RINGFEED_LOG__LEVEL", "info")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us, who then stop the server.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let stderr = child.stderr.take().context("the server has no log")?;
        let mut log = BufReader::new(stderr).lines();
        let addresses = timeout(START_WITHIN, serving(&mut log))
            .await
            .context("the server did not start in time")??;
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self { child, addresses })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`, and nothing else.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the server")
    }

    /// SIGTERM; the server flushes and goes.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).context("cannot stop the server")?;
        }
        let status = timeout(STOP_WITHIN, self.child.wait()).await;
        let status = status.context("the server did not stop in time")??;
        if !status.success() {
            bail!("the server stopped with {status}");
        }
        Ok(())
    }
}

/// What is dropped unstopped is killed, and gone before its directory is.
impl Drop for ServerChild {
    fn drop(&mut self) {
        if self.child.start_kill().is_err() {
            return;
        }
        let deadline = Instant::now() + GONE_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Reads the log until the line that says where the server listens.
async fn serving(log: &mut Lines<BufReader<ChildStderr>>) -> anyhow::Result<Addresses> {
    let mut last = String::new();
    while let Some(line) = log.next_line().await? {
        let parsed: Option<Value> = serde_json::from_str(&line).ok();
        let fields = parsed.as_ref().map(|entry| &entry["fields"]);
        let address = |name| fields?.get(name)?.as_str()?.parse().ok();
        if let (Some(grpc), Some(metrics)) = (address("address"), address("metrics")) {
            return Ok(Addresses { grpc, metrics });
        }
        last = line;
    }
    bail!("the server did not start: {last}")
}

/// A directory of our own, gone with it.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Below `parent`, named for what it is used for.
    pub(super) fn new(parent: &Path, what: &str) -> anyhow::Result<Self> {
        let dir = parent.join(format!("ringfeed-{what}-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "our own data stays behind");
        }
    }
}
