use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::KeysAndAttributesBuilder;
use aws_sdk_dynamodb::types::{
    KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use tokio::time::sleep;

use super::Store;
use super::item::{Item, condition_failure, instant, name_hash, number, text, texts, ttl};
use super::reset_codes::{CODE_KEY, code_key, tries_and_sends};
use super::source_ips::{AddressLimit, address_key, wait_of_address};
use super::transaction::defect;
use super::user_row::{Row, user_attributes};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    Budget, FREE_FAILURES, Failures, LONGEST_WAIT, Network, PasswordHash, Timestamp, User, UserId,
    UserWithHash, Username, wait_after,
};
use crate::failure::Failure;

/// How many times keys that DynamoDB left out of a batch are asked for.
const BATCH_ROUNDS: usize = 3;

/// How long to wait before they are asked for again.
const BATCH_PAUSE: Duration = Duration::from_millis(50);

/// The attributes that count the failures of both budgets.
pub(super) const COUNTERS: [&str; 6] = [
    "known_failures",
    "known_attempt",
    "known_attempt_at",
    "other_failures",
    "other_attempt",
    "other_attempt_at",
];

/// The attributes of a user that decide an attempt, as a projection expression.
const CANDIDATE_ATTRIBUTES: &str = concat!(
    user_attributes!(),
    ", password_hash, known_failures, known_attempt, known_attempt_at, other_failures, other_attempt, \
     other_attempt_at"
);

/// A username that a password is verified for, with all that decides the attempt, as read before anything is compared.
#[derive(Clone, Debug)]
pub struct Candidate {
    username: String,
    user: Option<UserWithHash>,
    defect: Option<Failure>,
    known: Failures,
    other: Failures,
    address_wait: Option<Duration>,
}

/// One attempt to verify a password.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Names the attempt, so that a retry after a lost response finds that it was counted.
    pub id: &'a str,
    /// The network that it comes from.
    pub network: &'a Network,
    /// True if the password was right.
    pub is_right: bool,
    /// True if a right password is a sign-in, which is noted.
    pub is_signin: bool,
    /// True if the sign-in opens a session, which is counted.
    pub opens_session: bool,
    /// The time.
    pub now: Timestamp,
}

/// The outcome of [`Store::commit_attempt`].
#[derive(Debug)]
pub enum Commit {
    /// The attempt was allowed, and is charged or cleared. The user as of this moment, but with the security stamp of
    /// the password that was compared, and the number of sessions that were counted; `None` for an unknown username.
    Made(Option<Box<(User, u32)>>),
    /// Nothing was written, because the candidate is not as it was read or has to wait. This is how it is now.
    Refused(Box<Candidate>),
}

impl Budget {
    /// The prefix of the attributes that count its failures and sends.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Other => "other",
        }
    }
}

impl Candidate {
    /// The user who has the name; `None` if the name is unknown or the user's row damaged.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref().map(|user| &user.user)
    }

    /// Returns whether no user has the name.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.user.is_none() && self.defect.is_none()
    }

    /// The stored hash, if there is a user and the hash can be read.
    #[must_use]
    pub fn password_hash(&self) -> Option<&PasswordHash> {
        self.user.as_ref()?.password_hash.as_ref()?.as_ref().ok()
    }

    /// The reason why no password can be right although the name is known.
    #[must_use]
    pub fn defect(&self) -> Option<Failure> {
        let hash = self.user.as_ref().and_then(|user| user.password_hash.as_ref());
        let unreadable = |error| Failure::Defect(format!("a stored password hash {error}"));
        self.defect.clone().or_else(|| hash?.as_ref().err().map(unreadable))
    }

    /// The time for which attempts from the source address are refused; `None` if its budget is not used up.
    #[must_use]
    pub fn address_wait(&self) -> Option<Duration> {
        self.address_wait
    }

    /// The time for which attempts from `network` are refused; `None` if one is let through now.
    #[must_use]
    pub fn wait(&self, network: &Network, now: Timestamp) -> Option<Duration> {
        self.failures(self.budget(network)).wait(now)
    }

    fn budget(&self, network: &Network) -> Budget {
        Budget::of(self.user(), network)
    }

    fn failures(&self, budget: Budget) -> Failures {
        match budget {
            Budget::Known => self.known,
            Budget::Other => self.other,
        }
    }

    /// A name whose user and stub are these; `None` stands for one that is not stored.
    fn read(username: &str, user: Option<&Item>, stub: Option<&Item>) -> Result<Self, Failure> {
        let (row, defect) = match user.map(UserWithHash::from_item).transpose() {
            Ok(row) => (row, None),
            Err(damaged) => (None, Some(damaged)),
        };
        // Of a damaged row nothing is relied on, and nothing written: its attempts are counted as those of an unknown
        // name.
        let counted_in = if row.is_some() { user } else { stub };
        let failures = |budget| counted_in.map_or(Ok(Failures::default()), |item| failures(item, budget));
        Ok(Self {
            username: username.to_owned(),
            user: row,
            defect,
            known: failures(Budget::Known)?,
            other: failures(Budget::Other)?,
            address_wait: None,
        })
    }
}

impl Store {
    /// Reads all that decides an attempt on `username` from `source_ip`, in one call. The counter of the address may be
    /// a moment old, everything else is not.
    pub async fn candidate(
        &self,
        username: &Username,
        source_ip: IpAddr,
        limit: Option<AddressLimit>,
        now: Timestamp,
    ) -> Result<Candidate, Failure> {
        self.read_candidate(username.normalised(), true, source_ip, limit, now).await
    }

    /// Reads all that decides an attempt of the user with this id, who has to exist. `None` if there is none.
    pub async fn candidate_by_id(
        &self,
        user_id: &UserId,
        source_ip: IpAddr,
        limit: Option<AddressLimit>,
        now: Timestamp,
    ) -> Result<Option<Candidate>, Failure> {
        let Some(username) = self.username_of(user_id).await? else {
            return Ok(None);
        };
        let candidate = self.read_candidate(&username, false, source_ip, limit, now).await?;
        match (candidate.user(), &candidate.defect) {
            (Some(user), _) => Ok((user.user_id == *user_id).then_some(candidate)),
            (None, Some(damaged)) => Err(damaged.clone()),
            (None, None) => Ok(None),
        }
    }

    async fn read_candidate(
        &self,
        username: &str,
        may_be_unknown: bool,
        source_ip: IpAddr,
        limit: Option<AddressLimit>,
        now: Timestamp,
    ) -> Result<Candidate, Failure> {
        let (users, attempts, addresses) =
            (&self.tables.users, &self.tables.attempts, &self.tables.source_ips);
        let key = |name: &str, value: &str| {
            let key = HashMap::from([(name.to_owned(), text(value))]);
            KeysAndAttributes::builder().keys(key)
        };
        let user = key("username", username).projection_expression(CANDIDATE_ATTRIBUTES);
        let mut wanted = vec![(users, user.consistent_read(true))];
        if may_be_unknown {
            wanted.push((attempts, key("subject", &username_subject(username)).consistent_read(true)));
        }
        if let Some(limit) = limit {
            wanted.push((addresses, key("subject", &address_key(limit.budget(), source_ip))));
        }
        let found = self.batch_get(wanted).await?;
        let candidate = Candidate::read(username, found.get(users), found.get(attempts))?;
        let address_wait = match (limit, found.get(addresses)) {
            (Some(limit), Some(address)) => wait_of_address(address, limit, now)?,
            _ => None,
        };
        Ok(Candidate { address_wait, ..candidate })
    }

    /// Reads one item of each of these tables. Keys that DynamoDB leaves unprocessed, as it does under load, are asked
    /// for again.
    async fn batch_get(
        &self,
        wanted: Vec<(&String, KeysAndAttributesBuilder)>,
    ) -> Result<HashMap<String, Item>, Failure> {
        let keys = |(table, keys): (&String, KeysAndAttributesBuilder)| {
            keys.build().map(|keys| (table.clone(), keys)).map_err(defect)
        };
        let mut wanted: HashMap<_, _> = wanted.into_iter().map(keys).collect::<Result<_, _>>()?;
        let mut found = HashMap::new();
        for round in 0..BATCH_ROUNDS {
            if round > 0 {
                sleep(BATCH_PAUSE).await;
            }
            let output = self
                .client
                .batch_get_item()
                .set_request_items(Some(wanted))
                .send()
                .await
                .map_err(|error| DynamoDb.record_failure("BatchGetItem", &error))?;
            for (table, items) in output.responses.unwrap_or_default() {
                found.extend(items.into_iter().map(|item| (table.clone(), Item(item))));
            }
            wanted = output.unprocessed_keys.unwrap_or_default();
            if wanted.is_empty() {
                return Ok(found);
            }
        }
        Err(Failure::Unavailable("BatchGetItem: keys were left unprocessed".to_owned()))
    }

    /// Charges an attempt with a wrong password, or clears the budget after a right one, and at the same moment decides
    /// whether the attempt is allowed. Nothing about the comparison may be revealed before this returns
    /// [`Commit::Made`].
    ///
    /// Right and wrong attempts make the same call on the same item under the same condition: the user is the one that
    /// was read, the budget is the one that the network counts in, and no wait is in force.
    pub async fn commit_attempt(
        &self,
        candidate: &Candidate,
        attempt: &Attempt<'_>,
    ) -> Result<Commit, Failure> {
        let budget = candidate.budget(attempt.network);
        let update = match candidate.user() {
            Some(user) => {
                let update = self
                    .client
                    .update_item()
                    .table_name(&self.tables.users)
                    .key("username", text(&candidate.username))
                    .expression_attribute_values(":stamp", text(user.security_stamp.as_str()));
                if user.networks.is_empty() {
                    let condition = "security_stamp = :stamp AND attribute_not_exists(networks)";
                    update.condition_expression(condition)
                } else {
                    let networks = texts(user.networks.iter().map(Network::as_str));
                    update
                        .condition_expression("security_stamp = :stamp AND networks = :networks")
                        .expression_attribute_values(":networks", networks)
                }
            }
            None => self
                .client
                .update_item()
                .table_name(&self.tables.attempts)
                .key("subject", text(username_subject(&candidate.username))),
        };
        let forgotten_at = candidate.failures(budget).forgotten_at(attempt.now);
        let update = only_if_allowed(update, budget, attempt, forgotten_at);
        let outcome = counting(update, budget, attempt, candidate.user(), forgotten_at)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let user = |item: &Item| -> Result<_, Failure> {
            let is_known = candidate.user().is_some();
            let read = || Ok((User::from_item(item)?, item.count("sessions_opened")?));
            if is_known { read().map(|read| Some(Box::new(read))) } else { Ok(None) }
        };
        let item = match outcome {
            Ok(output) => {
                return Ok(Commit::Made(user(&Item(output.attributes.unwrap_or_default()))?));
            }
            Err(error) => condition_failure(&error)
                .ok_or_else(|| DynamoDb.record_failure("UpdateItem attempt", &error))?,
        };
        // The response was lost, and this is the SDK's retry of the write. The call that replaced the stamp
        // since then also revoked the tokens of this attempt, so they must not be issued under the new stamp.
        if item.optional_text(&format!("{}_attempt", budget.prefix())) == Some(attempt.id) {
            let mut counted = user(&item)?;
            if let (Some(counted), Some(read)) = (&mut counted, candidate.user()) {
                counted.0.security_stamp.clone_from(&read.security_stamp);
            }
            return Ok(Commit::Made(counted));
        }
        let item = Some(&item).filter(|item| !item.0.is_empty());
        let now = match candidate.user() {
            Some(_) => Candidate::read(&candidate.username, item, None),
            None => Candidate::read(&candidate.username, None, item),
        };
        // A damaged row stays one: of an attempt on it, only the stub was written.
        now.map(|now| {
            let defect = now.defect.or_else(|| candidate.defect.clone());
            Commit::Refused(Box::new(Candidate { defect, ..now }))
        })
    }

    /// Forgets the sign-in failures, the tries and the sends of `user`. A live code stays live. False if the user is
    /// another one than was read.
    pub async fn unlock(&self, user: &User, now: Timestamp) -> Result<bool, Failure> {
        let username = user.username.normalised();
        let failures = Update::builder()
            .table_name(&self.tables.users)
            .key("username", text(username))
            .condition_expression("user_id = :user_id")
            .expression_attribute_values(":user_id", text(user.user_id.as_str()))
            .update_expression(format!("REMOVE {}", COUNTERS.join(", ")))
            .build()
            .map_err(defect)?;
        let tries_and_sends = Update::builder()
            .table_name(&self.tables.reset_codes)
            .key(CODE_KEY, code_key(username))
            // The item comes into being if there was none; its time to live removes it.
            .update_expression(format!(
                "SET #ttl = if_not_exists(#ttl, :ttl) REMOVE {}",
                tries_and_sends().join(", ")
            ))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":ttl", ttl(now))
            .build()
            .map_err(defect)?;
        let updates = [failures, tries_and_sends];
        let updates = updates.map(|update| TransactWriteItem::builder().update(update).build());
        self.transact("unlock", updates.into()).await
    }
}

/// The key of the counters of an unknown username.
fn username_subject(username: &str) -> String {
    format!("username#{}", name_hash(username))
}

fn failures(item: &Item, budget: Budget) -> Result<Failures, Failure> {
    let prefix = budget.prefix();
    let count = item.optional_count(&format!("{prefix}_failures"))?.unwrap_or_default();
    Ok(Failures::new(count, item.optional_instant(&format!("{prefix}_attempt_at"))?))
}

/// Adds the condition that this is not a retry of an attempt that was counted, and that no wait is in force: the
/// failures in a row are as few as need none, or are the number whose wait is over, or are still those that were
/// forgotten at the time of reading. DynamoDB knows no powers, so that each number of failures with a wait of its own
/// is a clause.
fn only_if_allowed(
    update: UpdateItemFluentBuilder,
    budget: Budget,
    attempt: &Attempt<'_>,
    forgotten_at: Option<Timestamp>,
) -> UpdateItemFluentBuilder {
    let prefix = budget.prefix();
    let is_as_read = update.get_condition_expression().as_ref().map(|condition| format!("{condition} AND "));
    let condition = format!(
        "{}(attribute_not_exists({prefix}_attempt) OR {prefix}_attempt <> :attempt)",
        is_as_read.unwrap_or_default()
    );
    let mut update = update.expression_attribute_values(":attempt", text(attempt.id));
    if let Some(forgotten_at) = forgotten_at {
        return update
            .condition_expression(format!("{condition} AND {prefix}_attempt_at = :forgotten_at"))
            .expression_attribute_values(":forgotten_at", instant(forgotten_at));
    }
    let mut clauses =
        vec![format!("attribute_not_exists({prefix}_failures)"), format!("{prefix}_failures < :free")];
    update = update.expression_attribute_values(":free", number(FREE_FAILURES));
    for failures in FREE_FAILURES.. {
        let wait = wait_after(failures);
        let comparison = if wait == LONGEST_WAIT { ">=" } else { "=" };
        clauses.push(format!(
            "({prefix}_failures {comparison} :n{failures} AND {prefix}_attempt_at <= :t{failures})"
        ));
        update = update
            .expression_attribute_values(format!(":n{failures}"), number(failures))
            .expression_attribute_values(format!(":t{failures}"), instant(attempt.now - wait));
        if wait == LONGEST_WAIT {
            break;
        }
    }
    update.condition_expression(format!("{condition} AND ({})", clauses.join(" OR ")))
}

/// Adds the expression that counts the attempt.
fn counting(
    update: UpdateItemFluentBuilder,
    budget: Budget,
    attempt: &Attempt<'_>,
    user: Option<&User>,
    forgotten_at: Option<Timestamp>,
) -> UpdateItemFluentBuilder {
    let prefix = budget.prefix();
    let mut set = vec![format!("{prefix}_attempt = :attempt")];
    let mut update = update;
    if user.is_some() {
        // An attempt that opens no session adds none, so that all look alike. A user who may not sign in gets none, but
        // that can have changed since the user was read: rather one too many is counted than one too few.
        let opened = attempt.is_right && attempt.opens_session;
        set.push("sessions_opened = sessions_opened + :opened".to_owned());
        update = update.expression_attribute_values(":opened", number(i64::from(opened)));
    }
    if attempt.is_right {
        set.push(format!("{prefix}_failures = :zero"));
        update = update.expression_attribute_values(":zero", number(0));
        if let Some(networks) = user.and_then(|user| user.networks.after(attempt.network)) {
            set.push("networks = :new_networks".to_owned());
            let networks = texts(networks.iter().map(Network::as_str));
            update = update.expression_attribute_values(":new_networks", networks);
        }
        if attempt.is_signin {
            set.push("last_signin_at = :now".to_owned());
            update = update.expression_attribute_values(":now", instant(attempt.now));
        }
    } else {
        set.push(format!("{prefix}_attempt_at = :now"));
        update = update
            .expression_attribute_values(":now", instant(attempt.now))
            .expression_attribute_values(":one", number(1));
        if forgotten_at.is_some() {
            set.push(format!("{prefix}_failures = :one"));
        } else {
            set.push(format!("{prefix}_failures = if_not_exists({prefix}_failures, :zero) + :one"));
            update = update.expression_attribute_values(":zero", number(0));
        }
    }
    if user.is_none() {
        set.push("#ttl = :ttl".to_owned());
        update = update
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":ttl", ttl(Failures::forgotten_after(attempt.now)));
    }
    update.update_expression(format!("SET {}", set.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_unknown_name_does_not_show_it() {
        // printf %s st.huber | openssl dgst -sha256 -binary | basenc --base64url | tr -d =
        assert_eq!(username_subject("st.huber"), "username#8IPliYxbXx1Zg1qy018YAIiaJ9BkfqBIvkTQtfUV3hk");
    }
}
