//! `ringfeed demo`: the product in ten seconds, on real data, against a server of its own.

mod account;
mod board;
mod player;
mod say;
mod slow;
mod tape;

use std::{env, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    net::TcpListener,
    signal,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    account::Accounts,
    board::Board,
    player::{Passes, Player, Times},
    say::Say,
    tape::Tape,
};
use super::{
    child::{Addresses, Scratch, ServerChild},
    exit::Outcome,
};
use crate::{
    client::{ConnectOptions, Connection},
    proto::v1,
};

const PREFERRED_PORT: u16 = 50_051;
const TABLE_FOR: Duration = Duration::from_secs(3);
const FRAME: Duration = Duration::from_millis(200);
/// Without a terminal the table is printed now and then, not drawn over itself.
const PLAIN_FRAME: Duration = Duration::from_secs(4);
const ENDLESS_PASS: Duration = Duration::from_secs(60);
/// A shorter demo has no time for the slow dashboard and the kill.
const WHOLE_SHOW: Duration = Duration::from_secs(12);
const LAST_RECORDS_WITHIN: Duration = Duration::from_secs(15);

/// See the product in ten seconds, on real stock and sensor data.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  ringfeed demo --duration 20s")]
pub(super) struct DemoArgs {
    /// End after this long with a summary; without it, Ctrl-C ends it.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Keep the recorded times instead of shifting the records to now.
    #[arg(long)]
    as_recorded: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| d.try_into().ok());
    parsed.ok_or_else(|| "is no duration; write for instance 20s".into())
}

/// Whether everything that was stored came back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Missing,
}

/// Runs the show.
pub(super) async fn run(args: DemoArgs) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let say = Say::new();
    let scratch = Scratch::new(&env::temp_dir(), "demo")?;
    let server = ServerChild::start(scratch.path(), addresses().await, &[], &[]).await?;
    let show = Show::open(args, server.addresses, start)?;
    say.line(&format!(
        "ringfeed is serving; its page: {}/",
        show.endpoint
    ));
    let mut players = show.play().await?;
    let board = Arc::clone(&show.board);
    let following = {
        let (connection, feeds) = (show.connection.clone(), show.feeds());
        tokio::spawn(async move { board.follow(connection, &feeds).await })
    };

    let mut tiny = 0;
    let mut server = server;
    show.live(&say, start + TABLE_FOR).await;
    if show.has_time_for_all() {
        let readings = tape::readings(&show.tapes)?;
        tiny = slow::show(&show.connection, &show.endpoint, readings, &say).await?;
        server = show.kill(server, scratch.path(), &say).await?;
        show.invite(&say);
    }
    show.live_until_the_end(&say, &mut players).await?;
    show.drain().await;
    following.abort();
    let verdict = show.summary(&say, tiny);
    server.stop().await?;
    match verdict {
        Verdict::Whole => Ok(Outcome::Done),
        Verdict::Missing => anyhow::bail!("records are missing or doubled: see the summary"),
    }
}

/// The usual port, so that what is copied from the screen works; another one when it is taken.
async fn addresses() -> Addresses {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let free = TcpListener::bind(loopback(PREFERRED_PORT)).await.is_ok();
    let port = if free { PREFERRED_PORT } else { 0 };
    Addresses {
        grpc: loopback(port),
        metrics: loopback(0),
    }
}

#[derive(Debug)]
struct Show {
    args: DemoArgs,
    endpoint: String,
    addresses: Addresses,
    connection: Connection,
    tapes: Vec<Arc<Tape>>,
    accounts: Arc<Accounts>,
    board: Arc<Board>,
    stop: CancellationToken,
    ends: Option<Instant>,
}

impl Show {
    fn open(args: DemoArgs, addresses: Addresses, start: Instant) -> anyhow::Result<Self> {
        let endpoint = format!("http://{}", addresses.grpc);
        let accounts = Arc::new(Accounts::default());
        Ok(Self {
            connection: Connection::new(&ConnectOptions::to(endpoint.as_str()))?,
            tapes: tape::load()?.into_iter().map(Arc::new).collect(),
            board: Arc::new(Board::new(Arc::clone(&accounts))),
            accounts,
            stop: CancellationToken::new(),
            ends: args.duration.map(|duration| start + duration),
            args,
            endpoint,
            addresses,
        })
    }

    fn feeds(&self) -> Vec<String> {
        self.tapes.iter().map(|tape| tape.feed.clone()).collect()
    }

    fn has_time_for_all(&self) -> bool {
        self.args
            .duration
            .is_none_or(|duration| duration >= WHOLE_SHOW)
    }

    /// Creates and describes the feeds, and starts to play into them.
    async fn play(&self) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        for tape in &self.tapes {
            describe(&self.connection, tape)
                .await
                .with_context(|| tape.feed.clone())?;
        }
        let (times, said) = if self.args.as_recorded {
            (Times::AsRecorded, "with the times they were recorded at")
        } else {
            (
                Times::Shifted,
                "shifted to now (--as-recorded keeps their times)",
            )
        };
        let passes = if self.ends.is_some() {
            Passes::One
        } else {
            Passes::Endless
        };
        // The rest of the time is for the last records to arrive.
        let pass = self.args.duration.map_or(ENDLESS_PASS, |d| d.mul_f32(0.75));
        let say = Say::new();
        say.line(&format!(
            "playing recordings of real stocks and weather stations, {said}:"
        ));
        let mut players = JoinSet::new();
        for tape in &self.tapes {
            let player = Player {
                connection: self.connection.clone(),
                accounts: Arc::clone(&self.accounts),
                times,
                passes,
                pass,
                stop: self.stop.clone(),
            };
            players.spawn(player.play(Arc::clone(tape)));
        }
        Ok(players)
    }

    /// Shows the table until `end`.
    async fn live(&self, say: &Say, end: Instant) {
        let frame = if say.is_terminal() {
            FRAME
        } else {
            PLAIN_FRAME
        };
        loop {
            let next = (Instant::now() + frame).min(end);
            sleep_until(next).await;
            say.table(&self.board.table());
            if next >= end {
                return;
            }
        }
    }

    async fn live_until_the_end(
        &self,
        say: &Say,
        players: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let far = Instant::now() + Duration::from_secs(86_400 * 365);
        tokio::select! {
            () = self.live(say, self.ends.unwrap_or(far)) => {}
            interrupted = signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                say.line("stopping");
            }
        }
        // What has a duration is played to its end; the rest stops here.
        if self.ends.is_none() {
            self.stop.cancel();
        }
        let joined = async {
            while let Some(played) = players.join_next().await {
                played.context("a player failed")??;
            }
            Ok(())
        };
        tokio::select! {
            joined = joined => joined,
            _ = signal::ctrl_c() => anyhow::bail!("interrupted before the recordings were over"),
        }
    }

    /// Kills the server, starts it again, and says what that did.
    async fn kill(
        &self,
        server: ServerChild,
        dir: &std::path::Path,
        say: &Say,
    ) -> anyhow::Result<ServerChild> {
        let acked = |feed: &str| self.accounts.of(feed).acked;
        let before: Vec<_> = self.feeds().into_iter().map(|f| (acked(&f), f)).collect();
        let total: u64 = before.iter().map(|(acked, _)| acked).sum();
        let (pid, reached) = (
            server.pid().unwrap_or_default(),
            self.accounts.of("stocks.daily"),
        );
        say.line(&format!(
            "kill -9 {pid}, the server, in the middle of it: {total} records acked so far"
        ));
        server.kill().await?;
        let dead = Instant::now();
        let server = ServerChild::start(dir, self.addresses, &[], &[]).await?;
        let back = dead.elapsed();
        let mut seen = self.board.seen();
        drop(timeout(LAST_RECORDS_WITHIN, seen.changed()).await);
        let resumed = dead.elapsed();
        self.settle(total).await;
        let all = self.accounts.all();
        let (lost, doubled): (u64, u64) = all.values().fold((0, 0), |(l, d), figures| {
            (l + figures.lost, d + figures.doubled)
        });
        say.line(&format!(
            "   serving again after {} ms, records flowing after {} ms; stocks.daily resumed at offset {}",
            back.as_millis(),
            resumed.as_millis(),
            reached.next_offset,
        ));
        say.line(&format!(
            "   of the records acked before: lost {lost}, doubled {doubled}"
        ));
        Ok(server)
    }

    /// Waits until at least `acked` records have come back.
    async fn settle(&self, acked: u64) {
        let mut seen = self.board.seen();
        let all_there = async {
            while self
                .accounts
                .all()
                .values()
                .map(|f| f.delivered)
                .sum::<u64>()
                < acked
            {
                drop(seen.changed().await);
            }
        };
        drop(timeout(LAST_RECORDS_WITHIN, all_there).await);
    }

    fn invite(&self, say: &Say) {
        let endpoint = if self.addresses.grpc.port() == PREFERRED_PORT {
            String::new()
        } else {
            format!(" --endpoint {}", self.endpoint)
        };
        say.line("try it, in another terminal:");
        say.line(&format!("   ringfeed watch stocks.daily{endpoint}"));
        say.line(&format!(
            "   ringfeed subscribe sensors.bms --key bms.air_temp{endpoint}"
        ));
        say.line(&format!(
            "   echo '{{\"key\":\"pi17.temp\",\"value\":21.5}}' | ringfeed ingest sensors{endpoint}"
        ));
        say.line(&format!(
            "   curl -N {}/v1/feeds/sensors.bms/live",
            self.endpoint
        ));
        say.line(&format!("   open {}/", self.endpoint));
    }

    /// Waits until everything stored has come back.
    async fn drain(&self) {
        let mut seen = self.board.seen();
        let drained = async {
            while self
                .accounts
                .all()
                .values()
                .any(|figures| figures.missing() > 0)
            {
                drop(timeout(FRAME, seen.changed()).await);
            }
        };
        drop(timeout(LAST_RECORDS_WITHIN, drained).await);
        // Doubles would come after.
        sleep(FRAME).await;
    }

    fn summary(&self, say: &Say, tiny: u64) -> Verdict {
        let all = self.accounts.all();
        say.line("");
        say.line("FEED              INGESTED  DELIVERED   GAPS  REFUSED  MISSING");
        for (feed, figures) in &all {
            say.line(&format!(
                "{feed:<16} {:>9}  {:>9}  {:>5}  {:>7}  {:>7}",
                figures.acked,
                figures.delivered,
                figures.gaps,
                figures.refused,
                figures.missing()
            ));
        }
        let sum = |of: fn(&account::Figures) -> u64| all.values().map(of).sum::<u64>();
        let (ingested, delivered) = (sum(|f| f.acked), sum(|f| f.delivered));
        let (lost, doubled) = (sum(account::Figures::missing), sum(|f| f.doubled));
        if tiny > 0 {
            say.line(&format!(
                "{:<16} {tiny:>9}  (the small ring of above)",
                slow::FEED
            ));
        }
        say.line(&format!(
            "{ingested} stored, {delivered} delivered, lost {lost}, doubled {doubled}"
        ));
        if lost == 0 && doubled == 0 && ingested == delivered {
            Verdict::Whole
        } else {
            Verdict::Missing
        }
    }
}

async fn describe(connection: &Connection, tape: &Tape) -> anyhow::Result<()> {
    let mut catalog = connection.catalog();
    let create = v1::CreateFeedRequest {
        name: tape.feed.clone(),
        ..Default::default()
    };
    catalog.create_feed(create).await?;
    for (scope, info) in &tape.infos {
        let request = v1::SetKeyInfoRequest {
            feed: tape.feed.clone(),
            scope: Some(scope.clone()),
            info: Some(info.clone()),
        };
        catalog.set_key_info(request).await?;
    }
    Ok(())
}
