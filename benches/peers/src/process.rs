//! A server of the run: started in a directory of its own, measured, and ended with the run.

use std::{
    fs::File,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Child;

use crate::system::{Site, System};

/// Clock ticks per second in /proc; the same on every Linux machine one meets.
const TICKS: f64 = 100.0;
const START: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    /// What was started, for the report.
    pub command: String,
}

impl Server {
    pub async fn start(system: &impl System, site: &Site<'_>) -> Result<Self> {
        let log = site.data.join("server.log");
        let mut command = system.command(site)?;
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(&log)?);
        let shown = shown(&command, site);
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {shown}"))?;
        let pid = child.id().context("the server has no process id")?;
        let mut server = Self {
            child,
            pid,
            command: shown,
        };
        server.accepts(site.port, &log).await?;
        Ok(server)
    }

    async fn accepts(&mut self, port: u16, log: &Path) -> Result<()> {
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
        {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(log)?;
                bail!("{} ended with {status}\n{log}", self.command);
            }
            if start.elapsed() > START {
                bail!("{} took no connection on port {port}", self.command);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// User and system time of all its threads so far, the ended ones included.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(&self.pid.to_string())
    }

    /// Its memory at its largest so far, in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmHWM")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

/// Of a process by its id, or of ours as "self".
pub fn cpu_seconds(pid: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; utime and stime are the 12th and 13th after it.
    let (_, rest) = stat.rsplit_once(')').context("an odd /proc/pid/stat")?;
    let ticks = |at| -> Result<f64> {
        let word = rest.split_whitespace().nth(at);
        Ok(word.context("a short /proc/pid/stat")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// The command as a reader can repeat it, without this run's paths.
fn shown(command: &std::process::Command, site: &Site<'_>) -> String {
    let data = site.data.display().to_string();
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let mut words = vec![program.to_string_lossy().into_owned()];
    for word in command.get_args() {
        let word = word.to_string_lossy().replace(&data, "DIR");
        let word = if word == site.port.to_string() {
            "PORT".to_owned()
        } else {
            word
        };
        words.push(if word.is_empty() {
            "''".to_owned()
        } else {
            word
        });
    }
    words.join(" ")
}
