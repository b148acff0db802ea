use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Item, boolean, instant, instants, number, text};
use crate::domain::{
    EmailAddress, Locale, Networks, OwnChanges, PasswordHash, RecoveryStamp, SecurityStamp, SessionOwner,
    User, UserId, UserWithHash, Username,
};
use crate::failure::Failure;

/// A row of the users table, as much of it as is read.
pub(super) trait Row: Sized {
    /// The attributes that are read, as a projection expression.
    const ATTRIBUTES: &str;

    fn from_item(item: &Item) -> Result<Self, Failure>;
}

/// The attributes of a [`User`].
macro_rules! user_attributes {
    () => {
        "username, display_username, user_id, security_stamp, recovery_stamp, session_owner, kept_jti, \
         email_addresses, locale, \
         activated, must_change_password, created_at, password_changed_at, own_changes, last_signin_at, \
         networks"
    };
}
pub(super) use user_attributes;

impl Row for User {
    const ATTRIBUTES: &str = user_attributes!();

    fn from_item(item: &Item) -> Result<Self, Failure> {
        let addresses = item.list("email_addresses")?.iter().map(|address| {
            let address = address.as_s().ok().and_then(|address| EmailAddress::from_stored(address));
            address.ok_or_else(|| Item::unreadable("email_addresses"))
        });
        Ok(Self {
            username: Username::from_stored(item.text("username")?, item.text("display_username")?),
            user_id: UserId::parse(item.text("user_id")?).ok_or_else(|| Item::unreadable("user_id"))?,
            security_stamp: SecurityStamp::new(item.text("security_stamp")?.to_owned()),
            recovery_stamp: RecoveryStamp::new(item.text("recovery_stamp")?.to_owned()),
            session_owner: SessionOwner::parse(item.text("session_owner")?)
                .ok_or_else(|| Item::unreadable("session_owner"))?,
            kept_jti: item.optional_text("kept_jti").map(str::to_owned),
            email_addresses: addresses.collect::<Result<_, _>>()?,
            locale: item.optional_text("locale").and_then(Locale::parse),
            activated: item.boolean("activated")?,
            must_change_password: item.boolean("must_change_password")?,
            created_at: item.instant("created_at")?,
            password_changed_at: item.optional_instant("password_changed_at")?,
            own_changes: OwnChanges::new(item.instants("own_changes")?),
            last_signin_at: item.optional_instant("last_signin_at")?,
            networks: Networks::from_stored(item.optional_texts("networks")?),
        })
    }
}

impl Row for UserWithHash {
    const ATTRIBUTES: &str = concat!(user_attributes!(), ", password_hash");

    fn from_item(item: &Item) -> Result<Self, Failure> {
        Ok(Self {
            user: User::from_item(item)?,
            password_hash: item.optional_text("password_hash").map(PasswordHash::parse),
        })
    }
}

/// The value of `email_addresses`.
pub(super) fn address_list(addresses: &[EmailAddress]) -> AttributeValue {
    AttributeValue::L(addresses.iter().map(|address| text(address.as_str())).collect())
}

/// The item of a new user.
pub(super) fn new_item(
    UserWithHash { user, password_hash }: &UserWithHash,
) -> HashMap<String, AttributeValue> {
    let mut item = HashMap::from([
        ("username".to_owned(), text(user.username.normalised())),
        ("display_username".to_owned(), text(user.username.display())),
        ("user_id".to_owned(), text(user.user_id.as_str())),
        ("security_stamp".to_owned(), text(user.security_stamp.as_str())),
        ("recovery_stamp".to_owned(), text(user.recovery_stamp.as_str())),
        ("session_owner".to_owned(), text(user.session_owner.as_str())),
        ("sessions_opened".to_owned(), number(0)),
        ("email_addresses".to_owned(), address_list(&user.email_addresses)),
        ("activated".to_owned(), boolean(user.activated)),
        ("must_change_password".to_owned(), boolean(user.must_change_password)),
        ("created_at".to_owned(), instant(user.created_at)),
        ("own_changes".to_owned(), instants(user.own_changes.instants())),
    ]);
    let hash = password_hash.as_ref().and_then(|hash| hash.as_ref().ok());
    let optional = [
        ("password_hash", hash.map(|hash| text(hash.expose()))),
        ("locale", user.locale.as_ref().map(|locale| text(locale.as_str()))),
        ("kept_jti", user.kept_jti.as_deref().map(text)),
        ("password_changed_at", user.password_changed_at.map(instant)),
        ("last_signin_at", user.last_signin_at.map(instant)),
    ];
    item.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    item
}
