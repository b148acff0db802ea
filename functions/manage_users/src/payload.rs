//! What a payload may contain.

use serde::Deserialize;
use serde_json::Value;
use shared::domain::{
    EmailAddress, EmailAddressError, Locale, NewPassword, PasswordHash, PasswordPolicy, UserId, Username,
};
use shared::http::{Field, FieldErrors, Fields, Page};
use shared::store::UserUpdate;

/// The most addresses of one user: each of them gets a mail of its own.
const MAX_EMAIL_ADDRESSES: usize = 10;

/// The most users of one import: with passwords to hash it still ends within the time-out, and a line of metrics
/// can hold how long each hash took.
const MAX_IMPORTED: usize = 100;

const ACTIONS: [&str; 10] = [
    "create",
    "get",
    "list",
    "update",
    "set_password",
    "revoke_sessions",
    "unlock",
    "delete",
    "import",
    "count_outdated_hashes",
];

/// The action that a payload asks for, if there is one of this name.
pub(crate) fn action(payload: &Value) -> Option<&'static str> {
    ACTIONS.into_iter().find(|action| payload["action"] == *action)
}

/// What is to be done.
pub(crate) enum Command {
    /// Create a user.
    Create(Box<NewUser>),
    /// Show a user.
    Get { username: Username },
    /// Change what is given.
    Update { username: Username, update: UserUpdate },
    /// Set a password in place of the user's.
    SetPassword { username: Username, password: NewPassword, must_change_password: bool },
    /// Forget the failed sign-ins, the tries and the sends.
    Unlock { username: Username },
    /// Revoke all tokens and sessions.
    RevokeSessions { username: Username },
    /// Delete the user.
    Delete { username: Username },
    /// Show some users.
    List(Page),
    /// Count the hashes that are not yet of the form of new ones, among some users.
    CountOutdatedHashes(Page),
    /// Create many users, each as `create` would.
    Import { users: Vec<ImportedUser> },
}

/// One entry of an import: the username as written, and the user if the entry is valid.
pub(crate) struct ImportedUser {
    pub(crate) written_username: Value,
    pub(crate) user: Option<NewUser>,
}

/// A user to create.
pub(crate) struct NewUser {
    pub(crate) username: Username,
    pub(crate) credential: Credential,
    pub(crate) email_addresses: Vec<EmailAddress>,
    pub(crate) locale: Option<Locale>,
    pub(crate) activated: bool,
    pub(crate) must_change_password: bool,
    pub(crate) user_id: Option<UserId>,
}

/// What a new user signs in with.
pub(crate) enum Credential {
    /// A password to hash.
    Password(NewPassword),
    /// The hash of a password that only the user knows.
    Hash(PasswordHash),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    action: Field,
    username: Field,
    password: Field,
    password_hash: Field,
    email_addresses: Option<Value>,
    activated: Field,
    must_change_password: Field,
    user_id: Field,
    locale: Field,
    limit: Field,
    cursor: Field,
    users: Option<Value>,
}

impl Command {
    /// Parses a payload `{"action": …, …}`; fields that the action does not know are ignored.
    pub(crate) fn parse(payload: Value, policy: PasswordPolicy) -> Result<Self, FieldErrors> {
        let mut fields = Fields::default();
        let mut payload: Payload = match payload {
            Value::Object(_) => serde_json::from_value(payload).unwrap_or_default(),
            _ => Payload::default(),
        };
        let action = fields.text("action", std::mem::take(&mut payload.action));
        let command = match action.as_deref() {
            Some("create") => create(payload, policy, &mut fields).map(|user| Self::Create(Box::new(user))),
            Some("list") => fields.page(&payload.limit, payload.cursor).map(Self::List),
            Some("count_outdated_hashes") => {
                fields.page(&payload.limit, payload.cursor).map(Self::CountOutdatedHashes)
            }
            Some("import") => import(payload.users, policy, &mut fields),
            Some("revoke_sessions") => {
                fields.username(payload.username).map(|username| Self::RevokeSessions { username })
            }
            Some("delete") => fields.username(payload.username).map(|username| Self::Delete { username }),
            Some("get") => fields.username(payload.username).map(|username| Self::Get { username }),
            Some("update") => update(payload, &mut fields),
            Some("set_password") => set_password(payload, policy, &mut fields),
            Some("unlock") => fields.username(payload.username).map(|username| Self::Unlock { username }),
            Some(_) => fields.refuse("action", &format!("must be one of {}", ACTIONS.join(", "))),
            None => None,
        };
        command.ok_or_else(|| fields.into_errors())
    }
}

fn create(payload: Payload, policy: PasswordPolicy, fields: &mut Fields) -> Option<NewUser> {
    let username = fields.username(payload.username);
    let credential = match (payload.password, payload.password_hash) {
        (Field::Absent, Field::Absent) => {
            fields.refuse("password", "field is required without a password hash")
        }
        (password, Field::Absent) => {
            fields.new_password("password", password, policy).map(Credential::Password)
        }
        (Field::Absent, hash) => password_hash(hash, fields).map(Credential::Hash),
        _ => fields.refuse("password", "and a password hash exclude each other"),
    };
    let email_addresses = email_addresses(payload.email_addresses, fields);
    let activated = fields.boolean("activated", &payload.activated);
    let must_change_password = fields.boolean("must_change_password", &payload.must_change_password);
    let user_id = user_id(payload.user_id, fields);
    let locale = locale(payload.locale, fields);
    Some(NewUser {
        username: username?,
        credential: credential?,
        email_addresses: email_addresses?.unwrap_or_default(),
        activated: activated?.unwrap_or(false),
        must_change_password: must_change_password?.unwrap_or(false),
        user_id: user_id?,
        locale: locale?,
    })
}

fn update(payload: Payload, fields: &mut Fields) -> Option<Command> {
    let username = fields.username(payload.username);
    let email_addresses = email_addresses(payload.email_addresses, fields);
    let activated = fields.boolean("activated", &payload.activated);
    let must_change_password = fields.boolean("must_change_password", &payload.must_change_password);
    let locale = locale(payload.locale, fields);
    let update = UserUpdate {
        activated: activated?,
        must_change_password: must_change_password?,
        email_addresses: email_addresses?,
        locale: locale?,
    };
    Some(Command::Update { username: username?, update })
}

fn set_password(payload: Payload, policy: PasswordPolicy, fields: &mut Fields) -> Option<Command> {
    let username = fields.username(payload.username);
    let password = fields.new_password("password", payload.password, policy);
    let must_change_password = fields.boolean("must_change_password", &payload.must_change_password);
    Some(Command::SetPassword {
        username: username?,
        password: password?,
        must_change_password: must_change_password?.unwrap_or(false),
    })
}

fn password_hash(field: Field, fields: &mut Fields) -> Option<PasswordHash> {
    let text = fields.text("password_hash", field)?;
    PasswordHash::parse(&text).map_or_else(|error| fields.refuse("password_hash", &error.to_string()), Some)
}

fn user_id(field: Field, fields: &mut Fields) -> Option<Option<UserId>> {
    let written = match field {
        Field::Absent => return Some(None),
        // The ids of the system that the users come from are numbers more often than not.
        Field::Integer(number) => number.to_string(),
        field => fields.text("user_id", field)?,
    };
    UserId::parse(&written)
        .map(Some)
        .or_else(|| fields.refuse("user_id", "must be between 1 and 190 printable ASCII characters"))
}

/// The addresses as a set, in the order in which they were first written.
fn email_addresses(value: Option<Value>, fields: &mut Fields) -> Option<Option<Vec<EmailAddress>>> {
    let list = format!("must be a list of at most {MAX_EMAIL_ADDRESSES} e-mail addresses");
    let written = match value {
        None | Some(Value::Null) => return Some(None),
        Some(Value::Array(written)) => written,
        Some(_) => return fields.refuse("email_addresses", &list),
    };
    let (mut addresses, mut refused) = (Vec::new(), Vec::new());
    for (place, written) in written.iter().enumerate() {
        let text = written.as_str().ok_or(EmailAddressError::Malformed);
        match text.and_then(EmailAddress::parse_new) {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(error) => refused.push(format!("number {} {error}", place + 1)),
        }
    }
    if !refused.is_empty() {
        return fields.refuse("email_addresses", &format!("field is invalid: {}", refused.join("; ")));
    }
    if addresses.len() > MAX_EMAIL_ADDRESSES {
        return fields.refuse("email_addresses", &list);
    }
    Some(Some(addresses))
}

fn locale(field: Field, fields: &mut Fields) -> Option<Option<Locale>> {
    if matches!(field, Field::Absent) {
        return Some(None);
    }
    let text = fields.text("locale", field)?;
    Locale::parse(&text).map(Some).or_else(|| fields.refuse("locale", "must be a language tag such as de-AT"))
}

fn import(users: Option<Value>, policy: PasswordPolicy, fields: &mut Fields) -> Option<Command> {
    let entries = match users {
        Some(Value::Array(entries)) if entries.len() <= MAX_IMPORTED => entries,
        _ => return fields.refuse("users", &format!("must be a list of at most {MAX_IMPORTED} users")),
    };
    let parse = |entry: Value| ImportedUser {
        written_username: entry.get("username").cloned().unwrap_or_default(),
        user: serde_json::from_value(entry).ok().and_then(|payload| {
            let mut fields = Fields::default();
            create(payload, policy, &mut fields)
        }),
    };
    Some(Command::Import { users: entries.into_iter().map(parse).collect() })
}
