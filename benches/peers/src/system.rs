//! What a work needs of a system: a server to start, writers and readers of numbered lanes.

use std::{future::Future, path::Path, process::Command};

use anyhow::Result;

/// Where the programs lie, and where this run's server keeps its data and listens.
#[derive(Debug, Clone)]
pub struct Site<'a> {
    pub tools: &'a Path,
    pub data: &'a Path,
    pub port: u16,
}

/// One way to run one system. A lane is what it calls a stream, a key or a subject.
pub trait System: Clone + Send + Sync + 'static {
    type Writer: Writer;
    type Reader: Reader;

    /// Starts the server; may write its settings into `site.data` first.
    fn command(&self, site: &Site<'_>) -> Result<Command>;

    /// Once the server takes connections: makes the lanes.
    fn prepare(&self, port: u16, lanes: usize) -> impl Future<Output = Result<()>> + Send;

    /// A writer with a connection of its own.
    fn writer(&self, port: u16, lane: usize) -> impl Future<Output = Result<Self::Writer>> + Send;

    /// A reader with a connection of its own, at the lane's first record, and following.
    fn reader(&self, port: u16, lane: usize) -> impl Future<Output = Result<Self::Reader>> + Send;
}

pub trait Writer: Send + 'static {
    /// How many records its users would send at once.
    fn batch(&self) -> usize;

    /// Sends records that lie one after the other. Returns before they are acknowledged, unless
    /// as much as its users allow is unanswered.
    fn send(&mut self, records: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Waits until everything sent is acknowledged (or, where nothing is, has been received).
    fn settle(&mut self) -> impl Future<Output = Result<()>> + Send;
}

pub trait Reader: Send + 'static {
    /// Waits for records and hands on each that came, at least one.
    fn read(
        &mut self,
        each: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> impl Future<Output = Result<()>> + Send;
}
