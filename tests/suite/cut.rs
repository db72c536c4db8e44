//! Our own client behind a line that is cut again and again: what globs and sessions follow is handed
//! out once, whatever token or cursor it goes on by.

use std::{collections::BTreeMap, net::SocketAddr};

use ringfeed::{
    client::{
        ConnectOptions, Connection, Event, FirstConnect, RetryOptions, Session, Subscription,
        record_offset,
    },
    proto::v1::{self, start::From},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{Server, number, plain, upload, within};

const ROUNDS: u64 = 12;
const BATCH: u64 = 300;

/// A line to the server that can be cut.
struct Line {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
}

impl Line {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, seen) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut seen = seen.clone();
                seen.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn connection(&self) -> Connection {
        Connection::new(&ConnectOptions::to(self.address.to_string())).unwrap()
    }
}

fn retry() -> RetryOptions {
    RetryOptions {
        first: FirstConnect::Retry,
        give_up_after: None,
    }
}

fn earliest(selector: v1::Selector) -> v1::Selector {
    let from = Some(From::Earliest(v1::Earliest {}));
    v1::Selector {
        start: Some(v1::Start { from }),
        ..selector
    }
}

/// What was handed out, by selector and feed: each offset in its turn.
#[derive(Default)]
struct HandedOut {
    next: BTreeMap<(u32, String), u64>,
    disconnected: u64,
}

impl HandedOut {
    fn take(&mut self, event: Event) {
        match event {
            Event::Records {
                selector,
                feed,
                records,
                ..
            } => {
                let next = self.next.entry((selector, feed)).or_default();
                for record in records {
                    assert_eq!(record_offset(&record), Some(*next));
                    *next += 1;
                }
            }
            Event::Disconnected { .. } => self.disconnected += 1,
            Event::Gap { gap, .. } => panic!("{gap:?}"),
            _ => {}
        }
    }

    fn have(&self, lanes: usize, next: u64) -> bool {
        self.next.len() == lanes && self.next.values().all(|at| *at == next)
    }
}

async fn feed_all(server: &Server, feeds: &[&str], round: u64) {
    let mut client = server.feeds().await;
    for feed in feeds {
        let numbers = round * BATCH..(round + 1) * BATCH;
        let records = numbers.map(|n| number("k", n)).collect();
        upload(&mut client, vec![plain(feed, records)])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn globs_are_handed_out_once_over_a_line_that_is_cut() {
    const FEEDS: [&str; 3] = ["plant.a", "plant.b", "plant.c"];
    let server = Server::start().await;
    let line = Line::to(server.address()).await;
    feed_all(&server, &FEEDS[..2], 0).await;
    let request = v1::SubscribeRequest {
        selectors: vec![earliest(v1::Selector {
            feed_globs: vec!["plant.*".into()],
            ..v1::Selector::default()
        })],
        ..v1::SubscribeRequest::default()
    };
    let mut subscription = Subscription::new(line.connection(), request, retry()).unwrap();
    let mut out = HandedOut::default();
    let follow = async {
        // A token comes with the first time it has caught up; before that globs cannot go on.
        while !out.have(2, BATCH) {
            out.take(subscription.next().await.unwrap().unwrap());
        }
        feed_all(&server, &FEEDS[2..], 0).await;
        for round in 1..ROUNDS {
            feed_all(&server, &FEEDS, round).await;
            // Somewhere in the middle of it.
            for _ in 0..round % 4 {
                out.take(subscription.next().await.unwrap().unwrap());
            }
            line.cut();
        }
        while !out.have(3, ROUNDS * BATCH) {
            out.take(subscription.next().await.unwrap().unwrap());
        }
    };
    within("all records", follow).await;
    assert!(out.disconnected > 0);
    for (_, lane) in subscription.ledger().lanes() {
        let report = lane.report(Some(ROUNDS * BATCH));
        assert!(
            report.whole && report.delivered == ROUNDS * BATCH,
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_session_keeps_its_selectors_over_a_line_that_is_cut() {
    const FEEDS: [&str; 2] = ["plant.a", "plant.b"];
    let server = Server::start().await;
    let line = Line::to(server.address()).await;
    feed_all(&server, &FEEDS, 0).await;
    let named = |feed: &str| {
        earliest(v1::Selector {
            feed: feed.into(),
            ..v1::Selector::default()
        })
    };
    let globbed = earliest(v1::Selector {
        feed_globs: vec!["plant.*".into()],
        ..v1::Selector::default()
    });
    let mut session = Session::new(line.connection(), v1::SessionHello::default(), retry());
    let mut out = HandedOut::default();
    let follow = async {
        session.add(7, globbed).await.unwrap();
        while !out.have(2, BATCH) {
            out.take(session.next().await.unwrap());
        }
        for round in 1..ROUNDS {
            feed_all(&server, &FEEDS, round).await;
            match round {
                2 => session.add(8, named("plant.a")).await.unwrap(),
                4 => session.add(9, named("plant.b")).await.unwrap(),
                6 => session.remove(9).await.unwrap(),
                _ => {}
            }
            for _ in 0..round % 4 {
                out.take(session.next().await.unwrap());
            }
            line.cut();
        }
        let last = |out: &HandedOut| out.next.iter().filter(|((id, _), _)| *id != 9).count() == 3;
        let all = |out: &HandedOut| {
            let mut kept = out.next.iter().filter(|((id, _), _)| *id != 9);
            last(out) && kept.all(|(_, next)| *next == ROUNDS * BATCH)
        };
        while !all(&out) {
            out.take(session.next().await.unwrap());
        }
        let refused = session.add(10, named("nowhere")).await;
        assert!(refused.is_err());
    };
    within("all records", follow).await;
    assert!(out.disconnected > 0);
    let ids: Vec<_> = session.selectors().keys().copied().collect();
    assert_eq!(ids, [7, 8]);
}
