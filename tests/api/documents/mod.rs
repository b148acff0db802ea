//! The agreement of documents, events, template and log with the service.

mod deployment;
mod edge_template;
mod environments;
mod error_codes;
pub(crate) mod events;
mod layers;
mod links;
mod metrics;
pub(crate) mod openapi;
pub(crate) mod operations;
mod security;
mod standards;
pub(crate) mod template;
mod tls;
