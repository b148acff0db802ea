//! The code that several of Postern's Lambda functions share.
//!
//! | Module | Holds |
//! |---|---|
//! | [`domain`] | The pure rules: usernames, passwords, reset codes, sessions. No AWS, no HTTP, no clock, no randomness of its own. |
//! | [`store`] | DynamoDB: the tables, their keys, and every operation on them. |
//! | [`secrets`] | Secrets Manager: the keys that sign tokens and hash codes. |
//! | [`mail`] | SES: the mails and their templates. |
//! | [`function`] | Lambda: the trait of a function, and its run loop. |
//! | [`endpoint`] | API Gateway: the trait of an endpoint, the table of errors, and the responses. |
//! | [`administration`] | The functions that operators invoke: their answers and their log. |
//! | [`fields`] | The fields of requests, and the messages of those that are wrong. |
//! | [`authentication`] | Verifying a password within the budgets of failed attempts. |
//! | [`new_passwords`] | The requirements for new passwords, and the service that knows breached ones. |
//! | [`password_changes`] | The only way to change a password. |
//! | [`own_password`] | The password of a signed-in user: verified, changed, and the notice of it. |
//! | [`code_verification`] | Verifying a reset code within its tries. |
//! | [`hashing`] | Argon2id, and the imported forms of hashes that are still verified. |
//! | [`tokens`] | JSON Web Tokens: issuing, verifying, and finding their users. |
//! | [`http_client`] | Requests that no client of the SDK makes. |
//! | [`failure`] | Failures on our side, and refusals for a while. |
//! | [`telemetry`] | Logs and metrics. |
//! | [`settings`], [`aws`], [`clock`], [`random`] | Environment variables, the SDK's settings and errors, the time, the operating system's randomness. |

pub mod administration;
pub mod authentication;
pub mod aws;
pub mod clock;
pub mod code_verification;
pub mod domain;
pub mod endpoint;
pub mod failure;
pub mod fields;
pub mod function;
pub mod hashing;
pub mod http_client;
pub mod mail;
pub mod new_passwords;
pub mod own_password;
pub mod password_changes;
pub mod random;
pub mod secrets;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod tokens;
