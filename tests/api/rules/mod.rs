//! The rules that several endpoints share.

mod blocklist;
mod breached_passwords;
mod edge;
mod mails;
mod migration;
mod notices;
mod own_changes;
pub(crate) mod passwords;
mod public_keys;
mod reset_codes;
mod revoked_codes;
pub(crate) mod rotation;
mod safe_mode;
mod session_lifetimes;
mod settings;
mod throttling;
mod timing;
mod tokens;
