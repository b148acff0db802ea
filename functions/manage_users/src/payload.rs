//! What a payload may contain.

use serde::Deserialize;
use serde_json::Value;
use shared::domain::{EmailAddress, NewPassword, PasswordHash, PasswordPolicy, UserId, Username};
use shared::http::{Field, FieldErrors, Fields};
use shared::store::UserUpdate;

/// SES sends one mail to at most this many recipients.
const MAX_EMAIL_ADDRESSES: usize = 50;

/// What is to be done.
pub(crate) enum Command {
    /// Create a user.
    Create(Box<NewUser>),
    /// Show a user.
    Get { username: Username },
    /// Change what is given.
    Update { username: Username, update: UserUpdate },
    /// Set a password in place of the user's.
    SetPassword {
        username: Username,
        password: NewPassword,
        must_change_password: bool,
    },
    /// Forget the failed sign-ins, the tries and the sends.
    Unlock { username: Username },
}

/// A user to create.
pub(crate) struct NewUser {
    pub(crate) username: Username,
    pub(crate) credential: Credential,
    pub(crate) email_addresses: Vec<EmailAddress>,
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
            Some("create") => create(payload, policy, &mut fields),
            Some("get") => fields
                .username(payload.username)
                .map(|username| Self::Get { username }),
            Some("update") => update(payload, &mut fields),
            Some("set_password") => set_password(payload, policy, &mut fields),
            Some("unlock") => fields
                .username(payload.username)
                .map(|username| Self::Unlock { username }),
            Some(_) => fields.refuse(
                "action",
                "must be one of create, get, update, set_password, unlock",
            ),
            None => None,
        };
        command.ok_or_else(|| fields.into_errors())
    }
}

fn create(payload: Payload, policy: PasswordPolicy, fields: &mut Fields) -> Option<Command> {
    let username = fields.username(payload.username);
    let credential = match (payload.password, payload.password_hash) {
        (Field::Absent, Field::Absent) => {
            fields.refuse("password", "field is required without a password hash")
        }
        (password, Field::Absent) => fields
            .new_password("password", password, policy)
            .map(Credential::Password),
        (Field::Absent, hash) => password_hash(hash, fields).map(Credential::Hash),
        _ => fields.refuse("password", "and a password hash exclude each other"),
    };
    let email_addresses = email_addresses(payload.email_addresses, fields);
    let activated = fields.boolean("activated", &payload.activated);
    let must_change_password = fields.boolean("must_change_password", &payload.must_change_password);
    let user_id = user_id(payload.user_id, fields);
    Some(Command::Create(Box::new(NewUser {
        username: username?,
        credential: credential?,
        email_addresses: email_addresses?.unwrap_or_default(),
        activated: activated?.unwrap_or(false),
        must_change_password: must_change_password?.unwrap_or(false),
        user_id: user_id?,
    })))
}

fn update(payload: Payload, fields: &mut Fields) -> Option<Command> {
    let username = fields.username(payload.username);
    let email_addresses = email_addresses(payload.email_addresses, fields);
    let activated = fields.boolean("activated", &payload.activated);
    let must_change_password = fields.boolean("must_change_password", &payload.must_change_password);
    let update = UserUpdate {
        activated: activated?,
        must_change_password: must_change_password?,
        email_addresses: email_addresses?,
    };
    Some(Command::Update {
        username: username?,
        update,
    })
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
    PasswordHash::parse(&text).or_else(|| {
        fields.refuse(
            "password_hash",
            "must be an Argon2 or bcrypt hash of bounded cost",
        )
    })
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

fn email_addresses(value: Option<Value>, fields: &mut Fields) -> Option<Option<Vec<EmailAddress>>> {
    let addresses: Option<Vec<EmailAddress>> = match value {
        None | Some(Value::Null) => return Some(None),
        Some(Value::Array(values)) if values.len() <= MAX_EMAIL_ADDRESSES => values
            .iter()
            .map(|value| value.as_str().and_then(EmailAddress::parse))
            .collect(),
        Some(_) => None,
    };
    addresses.map(Some).or_else(|| {
        let constraint = format!("must be a list of at most {MAX_EMAIL_ADDRESSES} e-mail addresses");
        fields.refuse("email_addresses", &constraint)
    })
}
