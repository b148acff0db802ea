//! The pure rules. Nothing here reads a clock, a random source or the network: all that varies is an argument.

mod blocklist;
mod email_address;
mod invisible;
mod network;
mod origins;
mod own_changes;
mod password;
mod password_hash;
mod reset_code;
mod session;
mod throttling;
mod timestamp;
mod user;
mod username;
mod viewer_address;

pub use blocklist::Blocklist;
pub use email_address::{EmailAddress, EmailAddressError};
pub use invisible::is_invisible;
pub(crate) use network::ipv6_network;
pub use network::{Budget, Network, Networks};
pub use origins::{AllowedOrigins, OriginsError, is_issuer_url, is_own_origin};
pub use own_changes::{OwnChanges, TooManyChanges};
pub use password::{
    ApprovedPassword, NewPassword, Password, PasswordError, PasswordPolicy, TooCommon, UncommonPassword,
};
pub use password_hash::{Form, Function, PasswordHash, PasswordHashError};
pub use reset_code::{CodeHash, CodeHolder, CodeId, ResetCode, SubmittedCode};
pub(crate) use reset_code::{DAILY_SENDS, HOURLY_SENDS, SendLimit, TRIES};
pub(crate) use session::{LiveSessions, MAX_SESSIONS, idle_session_end};
pub use session::{SessionId, SessionInformation, SessionKey, SessionOwner, SessionToken, SessionTokenHash};
pub(crate) use throttling::{FREE_FAILURES, Failures, LONGEST_WAIT, wait_after};
pub use timestamp::Timestamp;
pub use user::{Locale, RecoveryStamp, SecurityStamp, StoredHash, User, UserId, UserWithHash};
pub use username::{NewUsernameError, Username, UsernameError};
pub use viewer_address::{ViewerAddress, ViewerAddressError};

/// The longest username, session information, session token and user id, in Unicode scalar values.
pub(crate) const MAX_IDENTIFIER_CHARS: usize = 190;
