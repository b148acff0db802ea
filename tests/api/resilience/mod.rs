//! The service while dependencies fail and requests race.

mod faults;
mod outages;
mod races;
mod soak;
mod storms;
