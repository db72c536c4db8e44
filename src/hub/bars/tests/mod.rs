//! Tables against the reference, over random records.

mod bed;
mod cases;
mod random;
