//! What processes cost, as `/proc` tells it.

use std::{
    fs,
    time::{Duration, Instant},
};

/// The kernel shows times in hundredths of a second, whatever it counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of all threads of a process, those that are gone included.
fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may have spaces in it, and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub resident: u64,
    /// The most it ever was.
    pub peak: u64,
}

/// The memory of a process; `None` when it cannot be seen.
pub(super) fn memory(pid: Option<u32>) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    Some(Memory {
        resident: kib("VmRSS:")? << 10,
        peak: kib("VmHWM:")? << 10,
    })
}

/// A stretch of time that is measured.
#[derive(Debug)]
pub(super) struct Stretch {
    pid: Option<String>,
    start: Instant,
    server: Option<f64>,
    own: Option<f64>,
}

/// What a stretch cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub elapsed: Duration,
    /// CPU seconds of the server and of ourselves.
    pub server: Option<f64>,
    pub own: Option<f64>,
}

impl Stretch {
    pub(super) fn begin(pid: Option<u32>) -> Self {
        let pid = pid.map(|pid| pid.to_string());
        Self {
            server: pid.as_deref().and_then(cpu_seconds),
            own: cpu_seconds("self"),
            start: Instant::now(),
            pid,
        }
    }

    pub(super) fn end(self) -> Cost {
        let elapsed = self.start.elapsed();
        let since = |before: Option<f64>, after: Option<f64>| Some(after? - before?);
        let server = self.pid.as_deref().and_then(cpu_seconds);
        Cost {
            elapsed,
            server: since(self.server, server),
            own: since(self.own, cpu_seconds("self")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_measured() {
        let pid = std::process::id();
        let memory = memory(Some(pid)).unwrap();
        assert!(memory.peak >= memory.resident && memory.resident > 1 << 16);
        let stretch = Stretch::begin(Some(pid));
        let mut spun = 0_u64;
        while cpu_seconds("self") <= stretch.own {
            spun = std::hint::black_box(spun + 1);
        }
        let cost = stretch.end();
        assert!(cost.server.unwrap() > 0.0 && cost.own.unwrap() > 0.0);
        assert!(Stretch::begin(None).end().server.is_none());
    }
}
