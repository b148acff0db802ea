use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

use super::Store;
use super::item::{Item, condition_failure, instant, number, text, ttl};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{Timestamp, UserId, ipv6_network};
use crate::failure::{Failure, MAX_CONFLICT_RETRIES, Refused};
use crate::random;
use crate::settings::{ConfigError, Settings};

/// The kinds of answers that are counted for each source address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressBudget {
    /// Wrong passwords.
    SigninFailures,
    /// Wrong reset codes and unknown usernames.
    CodeFailures,
    /// Requests for mails with reset codes.
    ResetMails,
}

/// The number of answers of a kind that one source address gets in a window. The window starts with the first of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressLimit {
    budget: AddressBudget,
    limit: NonZeroU32,
}

/// The notices of sign-ins from new networks that a user gets in a window. A thief of the password could cause one
/// from each network, and a mail costs more than a sign-in.
const NOTICES: u32 = 5;
const NOTICES_WINDOW: Duration = Duration::from_hours(24);

/// A counter whose window starts with the first thing that is counted.
struct Counter<'a> {
    table: &'a str,
    subject: String,
    limit: u32,
    window: Duration,
}

impl AddressBudget {
    /// The setting with the limit, and its default.
    fn setting(self) -> (&'static str, u32) {
        match self {
            Self::SigninFailures => ("SIGNIN_FAILURES_PER_IP", 100),
            Self::CodeFailures => ("CODE_FAILURES_PER_IP", 60),
            Self::ResetMails => ("RESET_MAILS_PER_IP", 60),
        }
    }

    fn window(self) -> Duration {
        match self {
            Self::SigninFailures | Self::CodeFailures => Duration::from_mins(15),
            Self::ResetMails => Duration::from_hours(1),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::SigninFailures => "signin",
            Self::CodeFailures => "code",
            Self::ResetMails => "mail",
        }
    }
}

impl AddressLimit {
    /// The deployment's limit of `budget`; `None` if it is turned off.
    pub fn from_settings(settings: &Settings, budget: AddressBudget) -> Result<Option<Self>, ConfigError> {
        let (setting, default) = budget.setting();
        let limit = settings.number(setting, default, 0..=1_000_000)?;
        Ok(NonZeroU32::new(limit).map(|limit| Self { budget, limit }))
    }

    pub(super) fn budget(self) -> AddressBudget {
        self.budget
    }
}

impl Store {
    /// The time for which `source_ip` gets no more answers; `None` if its budget is not used up. The counter may be a
    /// moment old.
    pub async fn address_wait(
        &self,
        source_ip: IpAddr,
        limit: AddressLimit,
        now: Timestamp,
    ) -> Result<Option<Duration>, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.tables.source_ips)
            .key("subject", text(address_key(limit.budget, source_ip)))
            .send()
            .await
            .map_err(|error| DynamoDb.record_failure("GetItem source IPs", &error))?;
        output.item.map_or(Ok(None), |item| wait_of_address(&Item(item), limit, now))
    }

    /// Counts an answer to `source_ip`, unless as many as `limit` allows were counted in the current window. Then
    /// nothing is counted, and the wait lasts until the window ends.
    pub async fn charge_address(
        &self,
        source_ip: IpAddr,
        limit: AddressLimit,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let counter = Counter {
            table: &self.tables.source_ips,
            subject: address_key(limit.budget, source_ip),
            limit: limit.limit.get(),
            window: limit.budget.window(),
        };
        self.charge(&counter, &random::unique(), now).await
    }

    /// Counts a notice to a user, which has this id, unless as many were counted in the current window. Counting the last
    /// one again changes nothing.
    pub async fn charge_notice(&self, user_id: &UserId, notice: &str, now: Timestamp) -> Result<(), Refused> {
        let counter = Counter {
            table: &self.tables.attempts,
            subject: format!("notice#{}", user_id.as_str()),
            limit: NOTICES,
            window: NOTICES_WINDOW,
        };
        self.charge(&counter, notice, now).await
    }

    async fn charge(&self, counter: &Counter<'_>, attempt: &str, now: Timestamp) -> Result<(), Refused> {
        let window_end = now + counter.window;
        let update = || {
            self.client
                .update_item()
                .table_name(counter.table)
                .key("subject", text(&*counter.subject))
                .expression_attribute_names("#ttl", "ttl")
                .expression_attribute_values(":attempt", text(attempt))
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":end", instant(window_end))
                .expression_attribute_values(":ttl", ttl(window_end))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        };
        for _ in 0..MAX_CONFLICT_RETRIES {
            let count_on = update()
                .condition_expression(
                    "attribute_not_exists(subject) \
                     OR (attempt <> :attempt AND window_ends_at > :now AND failures < :limit)",
                )
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":limit", number(counter.limit))
                .update_expression(
                    "SET failures = if_not_exists(failures, :zero) + :one, attempt = :attempt, \
                     window_ends_at = if_not_exists(window_ends_at, :end), #ttl = if_not_exists(#ttl, :ttl)",
                )
                .expression_attribute_values(":zero", number(0));
            let Some(item) = refused(count_on).await? else {
                return Ok(());
            };
            // The response was lost, and this is the SDK's retry of the write; or the notice comes again.
            if item.optional_text("attempt") == Some(attempt) {
                return Ok(());
            }
            let ended_at = item.instant("window_ends_at")?;
            if ended_at > now {
                return Err(Refused::Wait(ended_at.since(now)));
            }
            let restart = update()
                .condition_expression("window_ends_at = :ended")
                .expression_attribute_values(":ended", instant(ended_at))
                .update_expression(
                    "SET failures = :one, attempt = :attempt, window_ends_at = :end, #ttl = :ttl",
                );
            match refused(restart).await? {
                None => return Ok(()),
                Some(item) if item.optional_text("attempt") == Some(attempt) => return Ok(()),
                Some(_) => {}
            }
        }
        Err(Failure::conflict().into())
    }
}

/// Makes an update, and returns the item as it is if the condition does not hold.
async fn refused(update: UpdateItemFluentBuilder) -> Result<Option<Item>, Failure> {
    match update.send().await {
        Ok(_) => Ok(None),
        Err(error) => match condition_failure(&error) {
            Some(item) => Ok(Some(item)),
            None => Err(DynamoDb.record_failure("UpdateItem counter", &error)),
        },
    }
}

/// The time until the window of an address ends whose budget is used up; `None` if it is not.
pub(super) fn wait_of_address(
    item: &Item,
    limit: AddressLimit,
    now: Timestamp,
) -> Result<Option<Duration>, Failure> {
    let (failures, window_ends_at) = (item.count("failures")?, item.instant("window_ends_at")?);
    Ok((window_ends_at > now && failures >= limit.limit.get()).then(|| window_ends_at.since(now)))
}

/// The key of the counter of an address. An IPv6 subscriber has at least a /64 of addresses, which therefore count as
/// one.
pub(super) fn address_key(budget: AddressBudget, source_ip: IpAddr) -> String {
    let address = match source_ip.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => ipv6_network(address),
    };
    format!("{}#{address}", budget.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_subscriber_count_as_one() {
        for (address, key) in [
            ("203.0.113.9", "signin#203.0.113.9"),
            ("::ffff:203.0.113.9", "signin#203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "signin#2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "signin#2001:db8:1:2::/64"),
        ] {
            assert_eq!(address_key(AddressBudget::SigninFailures, address.parse().unwrap()), key);
        }
    }
}
