//! Any valid stream balances, and one response lost, doubled or out of its place is caught. Of bars,
//! those with an empty range are not: nothing numbers them.

use proptest::prelude::*;

use super::{lanes::bars, *};

#[derive(Clone, Debug)]
enum Step {
    /// As many offsets, the records at those whose bit is set.
    Records(u64, u16),
    Gap(u64, v1::GapReason),
    Epoch,
    /// As many offsets, in as many messages more.
    Bars(u64, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use v1::GapReason::{Corrupt, Evicted, Jumped, Lost, Trimmed};
    let reasons = vec![Corrupt, Evicted, Jumped, Lost, Trimmed];
    let step = prop_oneof![
        4 => (1..16_u64, any::<u16>()).prop_map(|(len, bits)| Step::Records(len, bits)),
        2 => (1..50_u64, prop::sample::select(reasons)).prop_map(|(len, why)| Step::Gap(len, why)),
        1 => Just(Step::Epoch),
    ];
    prop::collection::vec(step, 1..20)
}

/// Of a selector of bars; a slow one may be conflated or jump.
fn bar_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..16_u64, 0..3_u8).prop_map(|(len, more)| Step::Bars(len, more)),
        1 => (1..50_u64).prop_map(|len| Step::Gap(len, v1::GapReason::Evicted)),
    ];
    prop::collection::vec(step, 1..20)
}

/// A stream from offset 100 on, and what it adds up to.
#[derive(Debug, Default)]
struct Stream {
    responses: Vec<v1::SubscribeResponse>,
    /// Those that settle nothing.
    empty: Vec<usize>,
    next: Cursor,
    delivered: u64,
    left_out: u64,
    missed: u64,
    gaps: usize,
}

impl Stream {
    fn of(steps: &[Step]) -> Self {
        let mut stream = Self {
            next: Cursor {
                epoch: EPOCH,
                offset: 100,
            },
            ..Self::default()
        };
        steps.iter().for_each(|step| stream.add(step));
        let Cursor { epoch, offset } = stream.next;
        stream
            .responses
            .push(response(Event::CaughtUp(v1::CaughtUp {
                next: Some(place(epoch, offset)),
                resume_token: String::new(),
            })));
        stream
    }

    fn add(&mut self, step: &Step) {
        let Cursor { epoch, offset } = self.next;
        match *step {
            Step::Records(len, bits) => {
                let to = offset + len;
                let offsets: Vec<_> = (offset..to)
                    .filter(|at| bits >> (at - offset) & 1 == 1)
                    .collect();
                self.responses.push(batch(epoch, offset, to, &offsets));
                self.delivered += offsets.len() as u64;
                self.left_out += len - offsets.len() as u64;
                self.next.offset = to;
            }
            Step::Gap(len, reason) => {
                let to = offset + len;
                let gap = gap(epoch, offset, to, reason);
                self.responses.push(response(Event::Gap(gap)));
                self.missed += len;
                self.gaps += 1;
                self.next.offset = to;
            }
            Step::Epoch => {
                let anew = place(epoch + 1, 3);
                self.responses.push(response(Event::Gap(v1::Gap {
                    oldest: Some(anew),
                    ..gap(epoch, offset, offset, v1::GapReason::EpochChanged)
                })));
                self.gaps += 1;
                self.next = Cursor {
                    epoch: epoch + 1,
                    offset: 3,
                };
            }
            Step::Bars(len, more) => {
                for _ in 0..more {
                    self.empty.push(self.responses.len());
                    self.responses.push(bars(offset, offset));
                }
                self.responses.push(bars(offset, offset + len));
                self.left_out += len;
                self.next.offset = offset + len;
            }
        }
    }
}

fn is_epoch_change(response: &v1::SubscribeResponse) -> bool {
    let reason = v1::GapReason::EpochChanged;
    matches!(&response.event, Some(Event::Gap(gap)) if gap.reason() == reason)
}

fn observe(responses: &[v1::SubscribeResponse]) -> Result<Ledger, Broken> {
    let mut ledger = ledger(Some(v1::start::From::Cursor(place(EPOCH, 100))));
    for response in responses {
        ledger.observe(response)?;
    }
    Ok(ledger)
}

fn balances(stream: &Stream) {
    let ledger = observe(&stream.responses).unwrap();
    let lane = ledger.lane(0, "f").unwrap();
    let report = lane.report(Some(stream.next.offset));
    assert_eq!(lane.next(), Some(stream.next));
    assert_eq!(report.delivered, stream.delivered);
    assert_eq!(report.left_out, stream.left_out);
    let missed: u64 = report.losses.iter().map(|loss| loss.offsets).sum();
    assert_eq!((missed, report.gaps.len()), (stream.missed, stream.gaps));
    assert_eq!(report.whole, stream.gaps == 0);
}

/// Everything that can happen to one response; the last one says where the stream stands.
fn every_change_is_caught(stream: &Stream) {
    let whole = &stream.responses;
    let last = whole.len() - 1;
    for at in (0..last).filter(|at| !stream.empty.contains(at)) {
        let mut dropped = whole.clone();
        let response = dropped.remove(at);
        assert!(observe(&dropped).is_err(), "{at} was lost: {stream:?}");
        let mut doubled = whole.clone();
        doubled.insert(at, response.clone());
        assert!(observe(&doubled).is_err(), "{at} came twice: {stream:?}");
        for to in (0..last).filter(|to| *to != at) {
            let mut moved = dropped.clone();
            moved.insert(to, response.clone());
            // Past empty ones it may have stayed where it was.
            if moved != *whole {
                assert!(observe(&moved).is_err(), "{at} went to {to}: {stream:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_stream_of_records_and_gaps_balances(steps in steps()) {
        let stream = Stream::of(&steps);
        balances(&stream);
        every_change_is_caught(&stream);
    }

    #[test]
    fn any_stream_of_bars_balances(steps in bar_steps()) {
        let stream = Stream::of(&steps);
        balances(&stream);
        every_change_is_caught(&stream);
    }

    /// From any earlier place of the stream on, what comes again changes nothing.
    #[test]
    fn what_comes_again_after_an_older_token_is_counted_once(
        steps in steps(),
        cut in any::<prop::sample::Index>(),
        token in any::<prop::sample::Index>(),
    ) {
        let stream = Stream::of(&steps);
        let cut = cut.index(stream.responses.len());
        let token = token.index(cut + 1);
        let mut ledger = observe(&stream.responses[..cut]).unwrap();
        ledger.reopened(Reopened::AtOrBefore);
        // Of an old epoch nothing can be told any more but that it changed.
        let epochs = (token..cut).filter(|at| is_epoch_change(&stream.responses[*at]));
        let token = epochs.last().unwrap_or(token);
        for response in &stream.responses[token..] {
            ledger.observe(response).unwrap();
        }
        let lane = ledger.lane(0, "f").unwrap();
        let report = lane.report(None);
        prop_assert_eq!(lane.next(), Some(stream.next));
        prop_assert_eq!(report.delivered, stream.delivered);
        prop_assert_eq!(report.left_out, stream.left_out);
        prop_assert_eq!(report.gaps.len(), stream.gaps);
    }
}
