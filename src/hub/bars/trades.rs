//! The trades of a bar. Those with an id are remembered, so that they can be corrected and taken
//! back; the others are only summed up.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::prices::{At, Dealt, Totals};
use crate::proto::v1;

/// Trades that were summed up, and those that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Trades {
    totals: Totals,
    unnamed: Totals,
    named: Vec<Named>,
    /// Whether `totals` still have to be worked out anew.
    freshness: Freshness,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Freshness {
    #[default]
    Fresh,
    Stale,
}

/// A trade that can be corrected.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub id: Arc<str>,
    pub at: At,
    /// Price and size, until it is taken back.
    deal: Option<(Decimal, Option<Decimal>)>,
}

/// What a later record does to a trade.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amendment {
    Correct {
        price: Decimal,
        size: Option<Decimal>,
    },
    Cancel,
}

impl Trades {
    pub(super) fn add(&mut self, at: At, dealt: &Dealt) {
        self.unnamed.add(at, dealt);
        self.count(at, dealt);
    }

    /// Adds a trade that is remembered; its place among them.
    pub(super) fn add_named(&mut self, id: Arc<str>, at: At, dealt: &Dealt) -> usize {
        self.count(at, dealt);
        let deal = Some((dealt.candle.close, dealt.volume));
        self.named.push(Named { id, at, deal });
        self.named.len() - 1
    }

    fn count(&mut self, at: At, dealt: &Dealt) {
        if self.freshness == Freshness::Fresh {
            self.totals.add(at, dealt);
        }
    }

    /// Changes the trade at `place`.
    pub(super) fn amend(&mut self, place: usize, amendment: Amendment) {
        if let Some(named) = self.named.get_mut(place) {
            named.deal = match amendment {
                Amendment::Correct { price, size } => Some((price, size)),
                Amendment::Cancel => None,
            };
            self.freshness = Freshness::Stale;
        }
    }

    /// Works the totals out anew where a trade was changed. Before `write`.
    pub(super) fn refresh(&mut self) {
        if self.freshness == Freshness::Fresh {
            return;
        }
        self.totals = self.unnamed.clone();
        for named in &self.named {
            if let Some((price, size)) = named.deal {
                self.totals.add(named.at, &Dealt::trade(price, size));
            }
        }
        self.freshness = Freshness::Fresh;
    }

    pub(super) fn named(&self) -> &[Named] {
        &self.named
    }

    pub(super) fn write(&self, bar: &mut v1::Bar) {
        self.totals.write(bar);
    }
}
