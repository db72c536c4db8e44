//! Tables against the reference, over random records.

mod again;
mod bed;
mod bench;
mod cases;
mod random;
