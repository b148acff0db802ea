//! The agreement of documents, events, template and log with the service.

pub(crate) mod document;
pub(crate) mod events;
mod links;
mod metrics;
mod security;
pub(crate) mod template;
mod trust;
