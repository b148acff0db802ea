//! The endpoints: what each takes and answers.

mod change_my_password;
mod change_password;
mod change_password_after_signin;
mod clients;
mod fields;
mod forgot_password;
mod hostile;
mod http;
mod manage_users;
mod request_bodies;
mod sessions;
mod signin;
