//! The service while dependencies fail and requests race.

mod failures;
mod faults;
mod races;
mod soak;
mod storms;
