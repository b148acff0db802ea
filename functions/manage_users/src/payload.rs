//! The commands that a payload may contain.

use serde_json::Value;
use serde_json::value::RawValue;
use shared::domain::{
    EmailAddress, EmailAddressError, Locale, NewPassword, PasswordHash, PasswordPolicy, Timestamp, UserId,
    Username,
};
use shared::fields::{Field, FieldErrors, NotAList, Page, Payload, Validator};
use shared::store::UserUpdate;

/// The most addresses of one user: each of them gets a mail of its own.
const MAX_EMAIL_ADDRESSES: usize = 10;

/// The most users of one import: with passwords to hash it still ends within the time-out.
const MAX_IMPORTED: usize = 100;

const ACTIONS: [&str; 11] = [
    "create",
    "get",
    "list",
    "update",
    "rename",
    "set_password",
    "revoke_sessions",
    "unlock",
    "delete",
    "import",
    "count_outdated_hashes",
];

/// A valid payload.
pub(crate) enum Command {
    /// Create a user.
    Create(Box<NewUser>),
    /// Show the user with this name.
    Get { username: Username },
    /// Show the user with this id.
    GetById { user_id: UserId },
    /// Change the given fields.
    Update { username: Username, update: UserUpdate },
    /// Give the user another name.
    Rename { username: Username, new_username: Username },
    /// Set a password in place of the user's.
    SetPassword { username: Username, password: NewPassword, must_change_password: bool },
    /// Forget the failed sign-ins, the tries and the sends.
    Unlock { username: Username },
    /// Revoke all tokens and sessions.
    RevokeSessions { username: Username },
    /// Delete the user.
    Delete { username: Username },
    /// Show a page of the users, of which those with this address if there is one.
    List { page: Page, email_address: Option<EmailAddress> },
    /// Count the hashes that are not yet of the form of new ones, among some users.
    CountOutdatedHashes(Page),
    /// Create many users, each as `create` would.
    Import { users: Vec<ImportedUser> },
}

/// One entry of an import: the username as written, and the user if the entry is valid.
pub(crate) struct ImportedUser {
    pub(crate) written_username: Value,
    pub(crate) user: Result<NewUser, FieldErrors>,
}

/// A user to create.
pub(crate) struct NewUser {
    pub(crate) username: Username,
    pub(crate) credential: Option<Credential>,
    pub(crate) email_addresses: Vec<EmailAddress>,
    pub(crate) locale: Option<Locale>,
    pub(crate) activated: bool,
    pub(crate) must_change_password: bool,
    pub(crate) user_id: Option<UserId>,
    /// Now, unless the user comes from another system.
    pub(crate) created_at: Timestamp,
    pub(crate) password_changed_at: Option<Timestamp>,
    pub(crate) last_signin_at: Option<Timestamp>,
}

/// The secret with which a new user signs in.
pub(crate) enum Credential {
    /// A password to hash.
    Password(NewPassword),
    /// The hash of a password that only the user knows.
    Hash(PasswordHash),
}

/// The constraints that differ by deployment and time.
#[derive(Clone, Copy)]
pub(crate) struct Constraints<'a> {
    pub(crate) policy: &'a PasswordPolicy,
    pub(crate) now: Timestamp,
}

impl Command {
    /// Parses a payload `{"action": …, …}`. Also returns the name of its action, if there is one of this name.
    pub(crate) fn parse(
        payload: &RawValue,
        constraints: Constraints<'_>,
    ) -> (Option<&'static str>, Result<Self, FieldErrors>) {
        let (mut payload, mut fields) = (Payload::parse(payload), Validator::default());
        let written = fields.text("action", payload.field("action"));
        let known =
            written.as_deref().and_then(|written| ACTIONS.into_iter().find(|action| *action == written));
        let Some(action) = known else {
            if written.is_some() {
                fields.refuse::<()>("action", &format!("must be one of {}", ACTIONS.join(", ")));
            }
            return (None, Err(fields.into_errors()));
        };
        let command = Self::of(action, &mut payload, constraints, &mut fields);
        payload.finish(&mut fields);
        (Some(action), fields.finish(command))
    }

    fn of(
        action: &str,
        payload: &mut Payload,
        constraints: Constraints<'_>,
        fields: &mut Validator,
    ) -> Option<Self> {
        match action {
            "create" => create(payload, constraints, fields).map(|user| Self::Create(Box::new(user))),
            "list" => list(payload, fields),
            "count_outdated_hashes" => fields.page(payload).map(Self::CountOutdatedHashes),
            "import" => import(payload, constraints, fields),
            "get" => get(payload, fields),
            "update" => update(payload, fields),
            "rename" => rename(payload, fields),
            "set_password" => set_password(payload, constraints.policy, fields),
            _ => {
                let username = fields.username(payload.field("username"))?;
                Some(match action {
                    "revoke_sessions" => Self::RevokeSessions { username },
                    "unlock" => Self::Unlock { username },
                    _ => Self::Delete { username },
                })
            }
        }
    }
}

fn create(payload: &mut Payload, constraints: Constraints<'_>, fields: &mut Validator) -> Option<NewUser> {
    let username = fields.new_username("username", payload.field("username"));
    let credential = match (payload.field("password"), payload.field("password_hash")) {
        (Field::Absent, Field::Absent) => Some(None),
        (password, Field::Absent) => fields
            .new_password("password", password, constraints.policy, username.as_ref())
            .map(|password| Some(Credential::Password(password))),
        (Field::Absent, hash) => password_hash(hash, fields).map(|hash| Some(Credential::Hash(hash))),
        _ => fields.refuse("password", "and a password hash exclude each other"),
    };
    let email_addresses = email_addresses(payload, fields);
    let activated = fields.boolean("activated", &payload.field("activated"));
    let must_change_password = fields.boolean("must_change_password", &payload.field("must_change_password"));
    let user_id = user_id(payload.field("user_id"), fields);
    let locale = locale(payload.field("locale"), fields);
    let mut past = |name: &'static str| past(name, payload.field(name), constraints.now, fields);
    let (created_at, password_changed_at, last_signin_at) =
        (past("created_at"), past("password_changed_at"), past("last_signin_at"));
    Some(NewUser {
        username: username?,
        credential: credential?,
        email_addresses: email_addresses?.unwrap_or_default(),
        activated: activated?.unwrap_or(false),
        must_change_password: must_change_password?.unwrap_or(false),
        user_id: user_id?,
        locale: locale?,
        created_at: created_at?.unwrap_or(constraints.now),
        password_changed_at: password_changed_at?,
        last_signin_at: last_signin_at?,
    })
}

fn get(payload: &mut Payload, fields: &mut Validator) -> Option<Command> {
    match (payload.field("username"), payload.field("user_id")) {
        (Field::Absent, Field::Absent) => fields.refuse("username", "field is required without a user id"),
        (username, Field::Absent) => fields.username(username).map(|username| Command::Get { username }),
        (Field::Absent, id) => user_id(id, fields)?.map(|user_id| Command::GetById { user_id }),
        _ => fields.refuse("username", "and a user id exclude each other"),
    }
}

fn list(payload: &mut Payload, fields: &mut Validator) -> Option<Command> {
    let page = fields.page(payload);
    let email_address = match payload.field("email_address") {
        Field::Absent => Some(None),
        field => fields.text("email_address", field).and_then(|text| {
            EmailAddress::parse_new(&text).map_or_else(
                |error| fields.refuse("email_address", &format!("field {error}")),
                |it| Some(Some(it)),
            )
        }),
    };
    Some(Command::List { page: page?, email_address: email_address? })
}

fn update(payload: &mut Payload, fields: &mut Validator) -> Option<Command> {
    let username = fields.username(payload.field("username"));
    let email_addresses = email_addresses(payload, fields);
    let activated = fields.boolean("activated", &payload.field("activated"));
    let must_change_password = fields.boolean("must_change_password", &payload.field("must_change_password"));
    // Here alone null is not the same as nothing: it removes the locale.
    let locale = match payload.json("locale") {
        None => Some(None),
        Some(json) => locale(Field::parse(&json), fields).map(Some),
    };
    let update = UserUpdate {
        activated: activated?,
        must_change_password: must_change_password?,
        email_addresses: email_addresses?,
        locale: locale?,
    };
    Some(Command::Update { username: username?, update })
}

fn rename(payload: &mut Payload, fields: &mut Validator) -> Option<Command> {
    let username = fields.username(payload.field("username"));
    let new_username = fields.new_username("new_username", payload.field("new_username"));
    Some(Command::Rename { username: username?, new_username: new_username? })
}

fn set_password(payload: &mut Payload, policy: &PasswordPolicy, fields: &mut Validator) -> Option<Command> {
    let username = fields.username(payload.field("username"));
    let password = fields.new_password("password", payload.field("password"), policy, username.as_ref());
    let must_change_password = fields.boolean("must_change_password", &payload.field("must_change_password"));
    Some(Command::SetPassword {
        username: username?,
        password: password?,
        must_change_password: must_change_password?.unwrap_or(false),
    })
}

fn password_hash(field: Field, fields: &mut Validator) -> Option<PasswordHash> {
    let text = fields.text("password_hash", field)?;
    PasswordHash::parse(&text).map_or_else(|error| fields.refuse("password_hash", &error.to_string()), Some)
}

fn user_id(field: Field, fields: &mut Validator) -> Option<Option<UserId>> {
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

fn email_addresses(payload: &mut Payload, fields: &mut Validator) -> Option<Option<Vec<EmailAddress>>> {
    let list = format!("must be a list of at most {MAX_EMAIL_ADDRESSES} e-mail addresses");
    let written = match payload.list("email_addresses") {
        Ok(None) => return Some(None),
        Ok(Some(written)) => written,
        Err(NotAList) => return fields.refuse("email_addresses", &list),
    };
    let (mut addresses, mut refused) = (Vec::new(), Vec::new());
    for (place, written) in written.iter().enumerate() {
        let text = serde_json::from_str::<String>(written.get()).map_err(|_| EmailAddressError::Malformed);
        match text.and_then(|text| EmailAddress::parse_new(&text)) {
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

fn locale(field: Field, fields: &mut Validator) -> Option<Option<Locale>> {
    if matches!(field, Field::Absent) {
        return Some(None);
    }
    let text = fields.text("locale", field)?;
    Locale::parse(&text).map(Some).or_else(|| fields.refuse("locale", "must be a language tag such as de-AT"))
}

/// An instant that is not in the future, and may be absent.
fn past(
    name: &'static str,
    field: Field,
    now: Timestamp,
    fields: &mut Validator,
) -> Option<Option<Timestamp>> {
    if matches!(field, Field::Absent) {
        return Some(None);
    }
    let text = fields.text(name, field)?;
    match Timestamp::parse_rfc3339(&text) {
        Some(instant) if instant <= now => Some(Some(instant)),
        Some(_) => fields.refuse(name, "must not be in the future"),
        None => fields.refuse(name, "must be an instant by RFC 3339 such as 2020-06-11T17:48:13Z"),
    }
}

fn import(payload: &mut Payload, constraints: Constraints<'_>, fields: &mut Validator) -> Option<Command> {
    let entries = match payload.list("users") {
        Ok(Some(entries)) if entries.len() <= MAX_IMPORTED => entries,
        _ => return fields.refuse("users", &format!("must be a list of at most {MAX_IMPORTED} users")),
    };
    let parse = |entry: Box<RawValue>| {
        let (mut payload, mut fields) = (Payload::parse(&entry), Validator::default());
        let written_username = payload.value("username");
        let user = create(&mut payload, constraints, &mut fields);
        payload.finish(&mut fields);
        ImportedUser { written_username, user: fields.finish(user) }
    };
    Some(Command::Import { users: entries.into_iter().map(parse).collect() })
}
