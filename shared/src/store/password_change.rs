use std::net::IpAddr;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};

use super::attempts::COUNTERS;
use super::item::{boolean, instant, instants, number, text, texts};
use super::reset_codes::{CODE_ATTRIBUTES, CODE_KEY, TRIES_ATTRIBUTES, code_key};
use super::transaction::defect;
use super::{NewSession, Store};
use crate::domain::{
    CodeId, Network, OwnChanges, PasswordHash, SecurityStamp, SessionInformation, Timestamp, TooManyChanges,
    User,
};
use crate::failure::Failure;
use crate::random;

/// A change of a user's password, with all that changes along with it. It revokes all tokens, all sessions and the
/// reset code of the user, except those that its kind keeps.
/// [`PasswordChanges`](crate::password_changes::PasswordChanges) makes it.
///
/// The user is the one that was read before: if the security stamp is another one by now, nothing is changed. The
/// networks from which the replaced password came are forgotten, but for the one from which the new password comes.
#[derive(Debug)]
pub struct PasswordChange<'a> {
    pub(crate) user: &'a User,
    pub(crate) now: Timestamp,
    password_hash: &'a PasswordHash,
    security_stamp: SecurityStamp,
    kind: ChangeKind<'a>,
}

/// The occasion of a change of a password.
#[derive(Debug)]
enum ChangeKind<'a> {
    /// The user made the change that was due, and signs in with it.
    Due {
        changes: OwnChanges,
        session: Option<NewSession<'a>>,
        information: Option<&'a SessionInformation>,
        source_ip: IpAddr,
    },
    /// The user made it with a token, which stays valid.
    SignedIn { changes: OwnChanges, kept_jti: &'a str, source_ip: IpAddr },
    /// A reset, which uses up the code and clears the failed sign-ins of both budgets.
    Reset { code_id: &'a CodeId, source_ip: IpAddr },
    /// An administrator set the password.
    Set { must_change_password: bool },
}

impl<'a> PasswordChange<'a> {
    /// The change that was due, by the user, who signs in with it: `security_stamp` is the new one, which the tokens of
    /// the sign-in carry, and `session` begins. `information` is the client's about itself. The change counts as one of
    /// the user's own.
    pub fn due(
        user: &'a User,
        password_hash: &'a PasswordHash,
        security_stamp: SecurityStamp,
        session: Option<NewSession<'a>>,
        information: Option<&'a SessionInformation>,
        source_ip: IpAddr,
        now: Timestamp,
    ) -> Result<Self, TooManyChanges> {
        let changes = user.own_changes.and_one_at(now)?;
        let kind = ChangeKind::Due { changes, session, information, source_ip };
        Ok(Self { user, now, password_hash, security_stamp, kind })
    }

    /// A change by the signed-in user. The token with the id `kept_jti` stays valid. The change counts as one of the
    /// user's own.
    pub fn signed_in(
        user: &'a User,
        password_hash: &'a PasswordHash,
        kept_jti: &'a str,
        source_ip: IpAddr,
        now: Timestamp,
    ) -> Result<Self, TooManyChanges> {
        let changes = user.own_changes.and_one_at(now)?;
        Ok(Self::of_kind(ChangeKind::SignedIn { changes, kept_jti, source_ip }, user, password_hash, now))
    }

    /// A reset, which uses up a code and clears the failed sign-ins. If the code is no longer live, nothing is changed.
    #[must_use]
    pub fn reset(
        user: &'a User,
        password_hash: &'a PasswordHash,
        code_id: &'a CodeId,
        source_ip: IpAddr,
        now: Timestamp,
    ) -> Self {
        Self::of_kind(ChangeKind::Reset { code_id, source_ip }, user, password_hash, now)
    }

    /// A change by an administrator.
    #[must_use]
    pub fn set(
        user: &'a User,
        password_hash: &'a PasswordHash,
        must_change_password: bool,
        now: Timestamp,
    ) -> Self {
        Self::of_kind(ChangeKind::Set { must_change_password }, user, password_hash, now)
    }

    fn of_kind(
        kind: ChangeKind<'a>,
        user: &'a User,
        password_hash: &'a PasswordHash,
        now: Timestamp,
    ) -> Self {
        Self { user, now, password_hash, security_stamp: random::security_stamp(), kind }
    }

    /// The address that the request came from; `None` if an administrator changes the password.
    pub(crate) fn source_ip(&self) -> Option<IpAddr> {
        match self.kind {
            ChangeKind::Due { source_ip, .. }
            | ChangeKind::SignedIn { source_ip, .. }
            | ChangeKind::Reset { source_ip, .. } => Some(source_ip),
            ChangeKind::Set { .. } => None,
        }
    }

    /// The client's information about itself.
    pub(crate) fn information(&self) -> Option<&'a SessionInformation> {
        match self.kind {
            ChangeKind::Due { information, .. } => information,
            _ => None,
        }
    }

    /// Returns whether a session begins with the change.
    pub(crate) fn begins_session(&self) -> bool {
        matches!(self.kind, ChangeKind::Due { session: Some(_), .. })
    }

    /// The update of the user.
    fn user_update(&self, table: &str) -> Result<Update, Failure> {
        let mut condition = "security_stamp = :read_stamp".to_owned();
        let mut assignments = "password_hash = :hash, security_stamp = :security_stamp, \
                               recovery_stamp = :recovery_stamp, must_change_password = :must_change, \
                               password_changed_at = :now"
            .to_owned();
        let mut removals = vec!["kept_jti".to_owned()];
        let must_change_password = matches!(self.kind, ChangeKind::Set { must_change_password: true });
        let mut update = Update::builder()
            .table_name(table)
            .key("username", text(self.user.username.normalised()))
            .expression_attribute_values(":read_stamp", text(self.user.security_stamp.as_str()))
            .expression_attribute_values(":hash", text(self.password_hash.expose()))
            .expression_attribute_values(":security_stamp", text(self.security_stamp.as_str()))
            .expression_attribute_values(":recovery_stamp", text(random::recovery_stamp().as_str()))
            .expression_attribute_values(":must_change", boolean(must_change_password))
            .expression_attribute_values(":now", instant(self.now));
        match &self.kind {
            ChangeKind::Due { changes, session, .. } => {
                assignments += ", own_changes = :changes, last_signin_at = :now, \
                                sessions_opened = sessions_opened + :opened";
                update = update
                    .expression_attribute_values(":changes", instants(changes.instants()))
                    .expression_attribute_values(":opened", number(i64::from(session.is_some())));
            }
            ChangeKind::SignedIn { changes, kept_jti, .. } => {
                assignments += ", own_changes = :changes, kept_jti = :jti";
                removals.clear();
                update = update
                    .expression_attribute_values(":changes", instants(changes.instants()))
                    .expression_attribute_values(":jti", text(*kept_jti));
            }
            ChangeKind::Reset { .. } => {
                // Addresses that changed since the code was verified revoked it, and replaced no security stamp.
                condition += " AND recovery_stamp = :read_recovery_stamp";
                removals.extend(COUNTERS.map(str::to_owned));
                update = update.expression_attribute_values(
                    ":read_recovery_stamp",
                    text(self.user.recovery_stamp.as_str()),
                );
            }
            ChangeKind::Set { .. } => {}
        }
        if let Some(source_ip) = self.source_ip() {
            assignments += ", networks = :networks";
            let networks = texts(std::iter::once(Network::from(source_ip).as_str()));
            update = update.expression_attribute_values(":networks", networks);
        } else {
            removals.push("networks".to_owned());
        }
        let removals =
            if removals.is_empty() { String::new() } else { format!(" REMOVE {}", removals.join(", ")) };
        update
            .condition_expression(condition)
            .update_expression(format!("SET {assignments}{removals}"))
            .build()
            .map_err(defect)
    }
}

impl Store {
    /// Changes a password, in one transaction. Returns false if the user or the code is no longer as it was read;
    /// nothing is changed then. After an error, the password may still change if a request is on its way.
    pub(crate) async fn change_password(&self, change: &PasswordChange<'_>) -> Result<bool, Failure> {
        let username = &change.user.username;
        let user = change.user_update(&self.tables.users)?;
        let mut items = vec![TransactWriteItem::builder().update(user).build()];
        match &change.kind {
            ChangeKind::Reset { code_id, .. } => {
                let code = Update::builder()
                    .table_name(&self.tables.reset_codes)
                    .key(CODE_KEY, code_key(username.normalised()))
                    .condition_expression("code_id = :code_id AND expires_at > :now")
                    .update_expression(format!(
                        "REMOVE {}",
                        [&CODE_ATTRIBUTES[..], &TRIES_ATTRIBUTES].concat().join(", ")
                    ))
                    .expression_attribute_values(":code_id", text(code_id.as_str()))
                    .expression_attribute_values(":now", instant(change.now))
                    .build()
                    .map_err(defect)?;
                items.push(TransactWriteItem::builder().update(code).build());
            }
            ChangeKind::Due { session: Some(session), .. } => {
                // Without a condition: a session that has this id is one that the change ends.
                let session = Put::builder()
                    .table_name(&self.tables.sessions)
                    .set_item(Some(session.to_item()))
                    .build()
                    .map_err(defect)?;
                items.push(TransactWriteItem::builder().put(session).build());
            }
            ChangeKind::Due { session: None, .. } | ChangeKind::SignedIn { .. } | ChangeKind::Set { .. } => {}
        }
        match self.transact("change password", items).await {
            // Perhaps only the responses were lost. No other change makes this stamp.
            Err(failure) => match self.user(username).await {
                Ok(Some(user)) if user.security_stamp == change.security_stamp => Ok(true),
                _ => Err(failure),
            },
            changed => changed,
        }
    }
}
