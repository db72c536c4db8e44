//! P7: what is wrong is refused by name, what is merely odd is kept, and nothing is half-stored.

mod calls;
mod odd;
mod refused;
