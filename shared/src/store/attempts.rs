use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    Delete, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use super::Store;
use super::item::{Item, condition_failure, instant, number, text, ttl};
use super::users::defect;
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    ADDRESS_WINDOW, DAILY_SENDS, FREE_FAILURES, LONGEST_WAIT, QUIET_PERIOD, Timestamp, Username, wait_after,
};
use crate::error::Failure;
use crate::random;

/// A reserved attempt from one source IP address.
#[derive(Clone, Debug)]
pub struct AddressReservation {
    subject: String,
    window_ends_at: Timestamp,
}

/// What a conditional write found.
enum Reservation {
    /// The attempt is counted; the item as it is now.
    Made(Item),
    /// The condition does not hold; the item as it is.
    Refused(Item),
}

/// How often a forgotten counter is begun anew before giving up. Each round is lost only to another attempt that
/// began it first, whereupon this one counts on in it.
const ROUNDS: usize = 3;

impl Store {
    /// Counts an attempt to sign in as `username`, as if it had failed, before the password is verified. `Err` is
    /// the time until an attempt would be let through; it then counts for nothing.
    pub async fn reserve_signin(
        &self,
        username: &Username,
        now: Timestamp,
    ) -> Result<Result<(), Duration>, Failure> {
        let subject = username_subject(username);
        let (expiry, attempt) = (ttl(now + QUIET_PERIOD), random::unique());
        for _ in 0..ROUNDS {
            let count_on = waits_over(self.attempt(&subject), now)
                .update_expression(
                    "SET failures = if_not_exists(failures, :zero) + :one, last_attempt_at = :now, \
                     attempt = :attempt, #ttl = :ttl",
                )
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":attempt", text(&attempt))
                .expression_attribute_values(":ttl", expiry.clone());
            let item = match reserve(count_on).await? {
                Reservation::Made(_) => return Ok(Ok(())),
                Reservation::Refused(item) => item,
            };
            if item.optional_text("attempt") == Some(attempt.as_str()) {
                // An answer got lost, and this is the repetition of what was written.
                return Ok(Ok(()));
            }
            let last_attempt_at = item.instant("last_attempt_at")?;
            if last_attempt_at + QUIET_PERIOD > now {
                let wait = wait_after(item.count("failures")?);
                return Ok(Err((last_attempt_at + wait).since(now)));
            }
            let begin_anew = self
                .attempt(&subject)
                .condition_expression("last_attempt_at = :forgotten")
                .expression_attribute_values(":forgotten", instant(last_attempt_at))
                .update_expression(
                    "SET failures = :one, last_attempt_at = :now, attempt = :attempt, #ttl = :ttl",
                )
                .expression_attribute_values(":attempt", text(&attempt))
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":ttl", expiry.clone());
            if let Reservation::Made(_) = reserve(begin_anew).await? {
                return Ok(Ok(()));
            }
        }
        Err(contended())
    }

    /// Forgets the failures of `username`.
    pub async fn clear_signin_failures(&self, username: &Username) -> Result<(), Failure> {
        self.client
            .delete_item()
            .table_name(&self.tables.attempts)
            .key("subject", text(username_subject(username)))
            .send()
            .await
            .map(drop)
            .map_err(|error| DynamoDb.failure("DeleteItem attempts", &error))
    }

    /// Counts an attempt from `address`, as if it had failed, unless `limit` were counted in its current window,
    /// which begins with the first of them.
    /// `Err` is the time until the window ends.
    pub async fn reserve_address(
        &self,
        address: IpAddr,
        limit: u32,
        now: Timestamp,
    ) -> Result<Result<AddressReservation, Duration>, Failure> {
        let subject = address_subject(address);
        let window_end = now + ADDRESS_WINDOW;
        for _ in 0..ROUNDS {
            let count_on = self
                .attempt(&subject)
                .condition_expression(
                    "attribute_not_exists(subject) OR (window_ends_at > :now AND failures < :limit)",
                )
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":limit", number(limit))
                .update_expression(
                    "SET failures = if_not_exists(failures, :zero) + :one, \
                     window_ends_at = if_not_exists(window_ends_at, :end), #ttl = if_not_exists(#ttl, :ttl)",
                )
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":end", instant(window_end))
                .expression_attribute_values(":ttl", ttl(window_end));
            let item = match reserve(count_on).await? {
                Reservation::Made(item) => {
                    let window_ends_at = item.instant("window_ends_at")?;
                    return Ok(Ok(AddressReservation { subject, window_ends_at }));
                }
                Reservation::Refused(item) => item,
            };
            let ended_at = item.instant("window_ends_at")?;
            if ended_at > now {
                return Ok(Err(ended_at.since(now)));
            }
            let begin_anew = self
                .attempt(&subject)
                .condition_expression("window_ends_at = :ended")
                .expression_attribute_values(":ended", instant(ended_at))
                .update_expression("SET failures = :one, window_ends_at = :end, #ttl = :ttl")
                .expression_attribute_values(":end", instant(window_end))
                .expression_attribute_values(":ttl", ttl(window_end));
            if let Reservation::Made(_) = reserve(begin_anew).await? {
                return Ok(Ok(AddressReservation { subject, window_ends_at: window_end }));
            }
        }
        Err(contended())
    }

    /// Takes an attempt that did not fail out of the count again. It is not repeated when its answer is lost, or
    /// it could be taken out twice.
    pub async fn give_back_address(&self, reservation: &AddressReservation) -> Result<(), Failure> {
        let once = aws_sdk_dynamodb::config::retry::RetryConfig::disabled();
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.attempts)
            .key("subject", text(&reservation.subject))
            .condition_expression("window_ends_at = :end AND failures > :zero")
            .expression_attribute_values(":end", instant(reservation.window_ends_at))
            .expression_attribute_values(":zero", number(0))
            .update_expression("SET failures = failures - :one")
            .expression_attribute_values(":one", number(1))
            .customize()
            .config_override(aws_sdk_dynamodb::Config::builder().retry_config(once))
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            // The window is over: there is nothing left to give back to.
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.failure("UpdateItem attempts", &error)),
        }
    }

    /// Forgets the sign-in failures, the tries and the sends of `username`. A live code stays live.
    pub async fn unlock(&self, username: &Username, now: Timestamp) -> Result<(), Failure> {
        let failures = Delete::builder()
            .table_name(&self.tables.attempts)
            .key("subject", text(username_subject(username)))
            .build()
            .map_err(defect)?;
        let sends = (0..DAILY_SENDS.0).map(|send| format!("sent_{send}")).collect::<Vec<_>>().join(", ");
        let tries_and_sends = Update::builder()
            .table_name(&self.tables.reset_codes)
            .key("username", text(username.normalised()))
            // The item comes into being if there was none; its time to live removes it.
            .update_expression(format!("SET #ttl = if_not_exists(#ttl, :ttl) REMOVE tries, {sends}"))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":ttl", ttl(now))
            .build()
            .map_err(defect)?;
        self.client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().delete(failures).build())
            .transact_items(TransactWriteItem::builder().update(tries_and_sends).build())
            .send()
            .await
            .map(drop)
            .map_err(|error| DynamoDb.failure("TransactWriteItems unlock", &error))
    }

    /// An update of one counter; its expression is still to be given.
    fn attempt(&self, subject: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.attempts)
            .key("subject", text(subject))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

/// The key of the counter of `username`, whether anybody has that name or not.
pub(super) fn username_subject(username: &Username) -> String {
    format!("username#{}", username.normalised())
}

/// An IPv6 subscriber has at least a /64 of addresses, which therefore count as one.
fn address_subject(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("ip#{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("ip#{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// The condition that [`wait_after`] of the counted failures is over. DynamoDB knows no powers: the wait after
/// each number of failures is a clause of its own.
fn waits_over(update: UpdateItemFluentBuilder, now: Timestamp) -> UpdateItemFluentBuilder {
    let mut clauses = vec!["failures < :free".to_owned()];
    let mut update = update
        .expression_attribute_values(":free", number(FREE_FAILURES))
        .expression_attribute_values(":now", instant(now))
        .expression_attribute_values(":quiet", instant(now - QUIET_PERIOD));
    for failures in FREE_FAILURES.. {
        let wait = wait_after(failures);
        let comparison = if wait == LONGEST_WAIT { ">=" } else { "=" };
        clauses.push(format!("(failures {comparison} :n{failures} AND last_attempt_at <= :t{failures})"));
        update = update
            .expression_attribute_values(format!(":n{failures}"), number(failures))
            .expression_attribute_values(format!(":t{failures}"), instant(now - wait));
        if wait == LONGEST_WAIT {
            break;
        }
    }
    let clauses = clauses.join(" OR ");
    update.condition_expression(format!(
        "attribute_not_exists(subject) \
         OR (attempt <> :attempt AND last_attempt_at > :quiet AND ({clauses}))"
    ))
}

async fn reserve(update: UpdateItemFluentBuilder) -> Result<Reservation, Failure> {
    match update.send().await {
        Ok(output) => Ok(Reservation::Made(Item(output.attributes.unwrap_or_default()))),
        Err(error) => condition_failure(&error)
            .map(Reservation::Refused)
            .ok_or_else(|| DynamoDb.failure("UpdateItem attempts", &error)),
    }
}

fn contended() -> Failure {
    Failure::Unavailable("UpdateItem attempts: others were faster each time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_subscriber_count_as_one() {
        for (address, subject) in [
            ("203.0.113.9", "ip#203.0.113.9"),
            ("::ffff:203.0.113.9", "ip#203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "ip#2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "ip#2001:db8:1:2::/64"),
        ] {
            assert_eq!(address_subject(address.parse().unwrap()), subject);
        }
    }
}
