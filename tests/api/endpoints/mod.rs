//! The endpoints: their requests and responses.

mod authorizer;
mod bodies;
mod change_my_password;
mod change_password;
mod change_password_after_signin;
mod clients;
mod fields;
mod forgot_password;
mod malicious_input;
mod manage_users;
mod origins;
mod pages;
pub(crate) mod routes;
mod sessions;
mod signin;
mod smoke_test;
