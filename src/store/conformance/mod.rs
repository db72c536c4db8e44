//! One suite for every engine: each promise of the contract is a function over a `Bed`, and
//! `suite!` makes it a test of each engine.

pub(in crate::store) mod bed;
mod promises;
mod random;
mod retention;

use bed::{MemoryBed, SledBed};

macro_rules! suite {
    ($name:ident: $room:ident: $($promise:ident),* $(,)?) => {
        mod $name {
            mod memory {
                $(#[test] fn $promise() {
                    super::super::$room::$promise(super::super::MemoryBed::new());
                })*
            }
            mod sled {
                $(#[test] fn $promise() {
                    super::super::$room::$promise(super::super::SledBed::new());
                })*
            }
        }
    };
}

suite!(promises_of_writing: promises:
    what_is_appended_can_be_read_at_once,
    a_read_is_at_least_one_record_and_near_its_limit,
    a_record_comes_back_byte_for_byte,
    a_record_above_the_limit_is_refused,
    a_flushed_append_survives_an_unclean_reopen,
    a_clean_restart_keeps_everything,
    an_unfinished_batch_is_cut_at_open,
    a_batch_as_large_as_the_ring_is_cut_as_well,
    a_finished_batch_is_there_as_a_whole,
    replay_gives_each_block_with_its_marks,
    a_block_holds_no_more_marks_than_fit,
    what_an_immediate_ring_may_have_shown_is_never_used_again,
    an_immediate_ring_that_was_closed_lost_nothing,
    a_ring_that_becomes_durable_reserves_no_longer,
    small_entries_are_durable_with_the_flush,
    feeds_do_not_see_each_other,
    a_deleted_ring_begins_anew,
    nothing_is_written_after_close,
);

suite!(promises_of_retention: retention:
    evicted_range_arrives_as_a_gap,
    a_ring_keeps_most_of_its_bytes,
    the_head_of_a_flush_can_be_read_until_the_next,
    head_never_moves_back_over_reopen,
    trim_is_exact_to_the_record,
    what_was_trimmed_and_then_evicted_says_both,
    age_takes_whole_blocks_and_the_tail_last,
    seek_finds_the_block_of_a_time,
    a_ring_that_grows_keeps_all_and_takes_more,
    a_ring_that_shrinks_keeps_the_newest,
    a_ring_is_at_least_a_mebibyte,
);
