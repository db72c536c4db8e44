//! Many subscribers on some connections, and how far the slowest of them is.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    load::Selection,
    subscriber::{Latencies, Subscriber},
    verify::Verified,
    wire::{Link, Need, TakeMessage, Target, Windows},
};
use crate::proto::v1;

/// What each subscriber waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// That it has all there is at present.
    CaughtUp,
    /// Nothing yet: it follows.
    Open,
    /// What was selected of the first so many records.
    Sent(u64),
    /// The end of its stream.
    Ended,
}

/// A subscription that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub request: v1::SubscribeRequest,
    pub member: Member,
}

/// A subscriber and what it selected.
#[derive(Debug)]
pub(super) struct Member {
    pub subscriber: Subscriber,
    pub selection: Option<Arc<Selection>>,
}

impl Member {
    /// Who wants everything.
    pub(super) fn of_all(subscriber: Subscriber) -> Self {
        let selection = None;
        Self {
            subscriber,
            selection,
        }
    }

    /// Checks that exactly what was selected of what was sent has come.
    fn check(&self, sent: u64) -> anyhow::Result<()> {
        let received = self.subscriber.received.records;
        let selection = self.selection.as_ref();
        let expected = selection.map_or(sent, |s| s.count(sent));
        ensure!(
            received == expected,
            "a subscriber got {received} records of {expected}"
        );
        Ok(())
    }

    fn reached(&self, goal: Goal, ended: bool) -> bool {
        let received = &self.subscriber.received;
        match goal {
            Goal::CaughtUp => received.caught_up,
            Goal::Open => false,
            Goal::Sent(sent) => {
                let selection = self.selection.as_ref();
                received.records >= selection.map_or(sent, |s| s.count(sent))
            }
            Goal::Ended => ended,
        }
    }
}

impl TakeMessage for Member {
    fn part(&mut self, part: &[u8], len: usize) -> anyhow::Result<Need> {
        self.subscriber.part(part, len)
    }

    fn whole(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.subscriber.whole(message)
    }
}

/// How far the slowest subscriber of each connection is.
#[derive(Debug)]
pub(super) struct Progress {
    slowest: Vec<AtomicU64>,
    moved: Notify,
}

impl Progress {
    fn new(links: usize) -> Self {
        Self {
            slowest: (0..links).map(|_| AtomicU64::new(0)).collect(),
            moved: Notify::new(),
        }
    }

    /// The offset that every subscriber has reached.
    pub(super) fn slowest(&self) -> u64 {
        let all = self.slowest.iter().map(|next| next.load(Ordering::Relaxed));
        all.min().unwrap_or(u64::MAX)
    }

    /// Waits until that may have changed. For one uploader.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    fn publish(&self, link: usize, next: u64) {
        if let Some(place) = self.slowest.get(link)
            && place.swap(next, Ordering::Relaxed) != next
        {
            self.moved.notify_one();
        }
    }
}

/// Subscribers that have all there is and wait for more.
#[derive(Debug)]
pub(super) struct Crowd {
    links: Vec<Link<Member>>,
}

impl Crowd {
    /// Connects, without subscribing yet.
    pub(super) async fn connect(
        target: &Target,
        windows: Windows,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let mut links = Vec::with_capacity(connections);
        for _ in 0..connections {
            links.push(Link::open(target, windows).await?);
        }
        for link in &mut links {
            link.flush().await?;
        }
        Ok(Self { links })
    }

    /// Shares the subscriptions out among the connections.
    pub(super) fn subscribe(&mut self, wanted: impl IntoIterator<Item = Wanted>) {
        let connections = self.links.len().max(1);
        for (i, wanted) in wanted.into_iter().enumerate() {
            if let Some(link) = self.links.get_mut(i % connections) {
                link.subscribe(&wanted.request, wanted.member);
            }
        }
    }

    /// Begins to read on every connection until a goal is reached.
    pub(super) fn run(self, goal: Goal) -> Running {
        let (goal, watched) = watch::channel(goal);
        let progress = Arc::new(Progress::new(self.links.len()));
        let mut tasks = JoinSet::new();
        for (index, link) in self.links.into_iter().enumerate() {
            tasks.spawn(read(index, link, watched.clone(), Arc::clone(&progress)));
        }
        Running {
            goal,
            progress,
            tasks,
        }
    }

    /// Reads until every subscriber has reached the goal.
    pub(super) async fn until(self, goal: Goal) -> anyhow::Result<Self> {
        self.run(goal).finish().await
    }

    /// What the first subscriber that looks at every record has to say of what was sent.
    pub(super) fn verified(&self, sent: &[u64]) -> anyhow::Result<Verified> {
        let mut all = self.subscribers();
        let verifier = all.find_map(|member| member.subscriber.verifier.as_ref());
        verifier.context("nobody verified")?.finish(sent)
    }

    /// Checks that every subscriber got exactly what it had to get of what was sent.
    pub(super) fn check(&self, sent: u64) -> anyhow::Result<()> {
        self.subscribers().try_for_each(|member| member.check(sent))
    }

    /// Records and bytes that all subscribers got.
    pub(super) fn delivered(&self) -> (u64, u64) {
        self.subscribers().fold((0, 0), |(records, bytes), member| {
            let received = &member.subscriber.received;
            (records + received.records, bytes + received.bytes)
        })
    }

    /// Latencies of all that were timed.
    pub(super) fn latencies(&self) -> anyhow::Result<Histogram<u64>> {
        let mut all = Latencies::histogram()?;
        for member in self.subscribers() {
            if let Some(latencies) = &member.subscriber.latencies {
                all.add(&latencies.nanos)?;
            }
        }
        Ok(all)
    }

    pub(super) fn subscribers_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let inlets = self.links.iter_mut().flat_map(|link| &mut link.inlets);
        inlets.map(|inlet| &mut inlet.reader)
    }

    pub(super) fn subscribers(&self) -> impl Iterator<Item = &Member> {
        let inlets = self.links.iter().flat_map(|link| &link.inlets);
        inlets.map(|inlet| &inlet.reader)
    }
}

/// Subscribers that read.
#[derive(Debug)]
pub(super) struct Running {
    goal: watch::Sender<Goal>,
    pub progress: Arc<Progress>,
    tasks: JoinSet<anyhow::Result<(usize, Link<Member>)>>,
}

impl Running {
    /// Gives them another goal.
    pub(super) fn aim(&self, goal: Goal) {
        self.goal.send_replace(goal);
    }

    /// Waits until all have reached the goal; fails as soon as one of them fails.
    pub(super) async fn finish(mut self) -> anyhow::Result<Crowd> {
        let mut links = Vec::with_capacity(self.tasks.len());
        while let Some(read) = self.tasks.join_next().await {
            links.push(read.context("a reader failed")??);
        }
        links.sort_by_key(|(index, _)| *index);
        let links = links.into_iter().map(|(_, link)| link).collect();
        Ok(Crowd { links })
    }

    /// Ends with the failure of the first subscriber that fails, and not before.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(_))) | None => std::future::pending().await,
        }
    }
}

async fn read(
    index: usize,
    mut link: Link<Member>,
    mut goal: watch::Receiver<Goal>,
    progress: Arc<Progress>,
) -> anyhow::Result<(usize, Link<Member>)> {
    loop {
        link.flush().await?;
        let members = link.inlets.iter().map(|inlet| &inlet.reader.subscriber);
        let slowest = members.map(|subscriber| subscriber.received.next).min();
        progress.publish(index, slowest.unwrap_or(u64::MAX));
        let now = *goal.borrow_and_update();
        let mut inlets = link.inlets.iter();
        if inlets.all(|inlet| inlet.reader.reached(now, inlet.ended)) {
            return Ok((index, link));
        }
        let ended = link.inlets.iter().any(|inlet| inlet.ended);
        ensure!(
            !ended || now == Goal::Ended,
            "the server ended a subscription: its log says why"
        );
        tokio::select! {
            read = link.read() => read?,
            changed = goal.changed() => changed.context("nobody waits for the readers")?,
        }
    }
}
