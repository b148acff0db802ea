use std::collections::HashMap;
use std::fmt;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::Store;
use super::item::{Item, bytes, condition_failure, instant, name_hash, number, text, ttl};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{
    Budget, CodeHash, CodeHolder, CodeId, DAILY_SENDS, HOURLY_SENDS, SendLimit, TRIES, Timestamp, Username,
};
use crate::failure::{Failure, Refused};
use crate::random;

/// A code that is about to be sent.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// Names this sending.
    pub code_id: CodeId,
    /// The user it is sent to, as read for this sending.
    pub holder: CodeHolder,
    /// The keyed hash of the code.
    pub hash: CodeHash,
    /// The version of the key.
    pub key_version: String,
    /// When the code expires.
    pub expires_at: Timestamp,
    /// The budget in which the send counts.
    pub budget: Budget,
}

/// The item that a new code replaced, to be [restored](Store::restore_code) if the mail service refuses all mails with
/// the new code.
#[derive(Clone)]
pub struct ReplacedCode(HashMap<String, AttributeValue>);

/// The attribute that is the key of the table.
pub(super) const CODE_KEY: &str = "username_hash";

/// The attributes of a code. An item has all of them or none.
pub(super) const CODE_ATTRIBUTES: [&str; 5] =
    ["code_id", "code_holder", "code_hash", "key_version", "expires_at"];

/// The tries of a code in both budgets.
pub(super) const TRIES_ATTRIBUTES: [&str; 2] = [tries(Budget::Known), tries(Budget::Other)];

/// A code that was sent and is neither used nor expired.
#[derive(Clone, Debug)]
pub struct LiveCode {
    /// Names its sending.
    pub code_id: CodeId,
    /// The keyed hash of the code.
    pub hash: CodeHash,
    /// The version of the key.
    pub key_version: String,
}

/// One of a code's tries, reserved.
#[derive(Clone, Debug)]
pub struct ReservedTry {
    /// The code that may now be compared, once.
    pub code: LiveCode,
    budget: Budget,
    name: String,
}

/// Why no try could be reserved.
#[derive(Debug)]
pub enum TryError {
    /// There is no code, or it is used, expired or revoked.
    NoCode,
    /// The tries of the code are used up in the budget.
    Exhausted,
    /// The reservation could not be completed.
    Failure(Failure),
}

impl Store {
    /// Replaces the code of `username`, with fresh tries in both budgets, and counts a send in the code's budget,
    /// unless as many were counted there in the last hour or day as may be. `Err` is the time until another may be
    /// sent; nothing is changed then.
    ///
    /// A retry after a lost response finds the new code in place and cannot return the one before it.
    pub async fn replace_code(
        &self,
        username: &Username,
        code: &NewCode,
        now: Timestamp,
    ) -> Result<ReplacedCode, Refused> {
        // The last sends move down by one. All of an update's right sides are read before anything is written.
        let moves = (1..DAILY_SENDS.sends)
            .map(|place| {
                let (moved, later) = (send(code.budget, place), send(code.budget, place - 1));
                format!("{moved} = if_not_exists({later}, :never)")
            })
            .collect::<Vec<_>>()
            .join(", ");
        let oldest = |limit| oldest_send(code.budget, limit);
        let (hourly, daily) = (oldest(HOURLY_SENDS), oldest(DAILY_SENDS));
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key(CODE_KEY, code_key(username.normalised()))
            .condition_expression(format!(
                "(attribute_not_exists(code_id) OR code_id <> :code_id) \
                 AND (attribute_not_exists({hourly}) OR {hourly} <= :hour_ago) \
                 AND (attribute_not_exists({daily}) OR {daily} <= :day_ago)"
            ))
            .update_expression(format!(
                "SET code_id = :code_id, code_holder = :holder, code_hash = :code_hash, \
                 key_version = :key_version, expires_at = :expires_at, #ttl = :ttl, {latest} = :now, {moves} \
                 REMOVE {tries}",
                latest = send(code.budget, 0),
                tries = TRIES_ATTRIBUTES.join(", ")
            ))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":hour_ago", instant(now - HOURLY_SENDS.period))
            .expression_attribute_values(":day_ago", instant(now - DAILY_SENDS.period))
            .expression_attribute_values(":never", number(0))
            .expression_attribute_values(":code_id", text(code.code_id.as_str()))
            .expression_attribute_values(":holder", bytes(code.holder.as_bytes()))
            .expression_attribute_values(":code_hash", bytes(code.hash.as_bytes()))
            .expression_attribute_values(":key_version", text(&code.key_version))
            .expression_attribute_values(":expires_at", instant(code.expires_at))
            .expression_attribute_values(":ttl", ttl(code.expires_at.max(now + DAILY_SENDS.period)))
            .expression_attribute_values(":now", instant(now))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(output) => Ok(ReplacedCode(output.attributes.unwrap_or_default())),
            Err(error) => match condition_failure(&error) {
                Some(item) if item.optional_text("code_id") == Some(code.code_id.as_str()) => {
                    Ok(ReplacedCode(HashMap::new()))
                }
                Some(item) => {
                    let next = [HOURLY_SENDS, DAILY_SENDS].into_iter().filter_map(|limit| {
                        let sent = item.optional_instant(&oldest(limit)).ok()??;
                        Some((sent + limit.period).since(now))
                    });
                    Err(Refused::Wait(next.max().unwrap_or_default()))
                }
                None => Err(DynamoDb.record_failure("UpdateItem reset codes", &error).into()),
            },
        }
    }

    /// Undoes [`Self::replace_code`] for a code that certainly reached no one: restores the code before it, and gives
    /// the send back in its budget. Changes nothing if the new code was replaced or used in the meantime.
    ///
    /// Tries that were used in the meantime stay counted, together with those of the code before. In whichever budget
    /// they count, they also keep the send counted: each new code has tries of its own in both, which must not be had
    /// for nothing while mails are refused.
    pub async fn restore_code(
        &self,
        username: &Username,
        code: &NewCode,
        replaced: &ReplacedCode,
    ) -> Result<(), Failure> {
        let was_tried = match self.try_restore_code(username, code, replaced, true).await? {
            Some(item) => item.optional_text("code_id") == Some(code.code_id.as_str()),
            None => false,
        };
        if was_tried {
            self.try_restore_code(username, code, replaced, false).await?;
        }
        Ok(())
    }

    /// Restores a code, and gives its send back if it `is_untried`. Returns the item if it is not as it has to be.
    async fn try_restore_code(
        &self,
        username: &Username,
        code: &NewCode,
        ReplacedCode(replaced): &ReplacedCode,
        is_untried: bool,
    ) -> Result<Option<Item>, Failure> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key(CODE_KEY, code_key(username.normalised()))
            .expression_attribute_values(":new", text(code.code_id.as_str()));
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for name in CODE_ATTRIBUTES {
            if let Some(value) = replaced.get(name) {
                set.push(format!("{name} = :{name}"));
                update = update.expression_attribute_values(format!(":{name}"), value.clone());
            } else {
                remove.push(name);
            }
        }
        let mut conditions = vec!["code_id = :new".to_owned()];
        if is_untried {
            conditions.extend(TRIES_ATTRIBUTES.map(|tries| format!("attribute_not_exists({tries})")));
            // The sends move back up by one. The one that had moved out was too old to count.
            for place in 1..DAILY_SENDS.sends {
                let (moved, earlier) = (send(code.budget, place - 1), send(code.budget, place));
                set.push(format!("{moved} = if_not_exists({earlier}, :never)"));
            }
            set.push(format!("{} = :never", oldest_send(code.budget, DAILY_SENDS)));
            update = update.expression_attribute_values(":never", number(0));
        }
        let mut clauses = Vec::new();
        if !set.is_empty() {
            clauses.push(format!("SET {}", set.join(", ")));
        }
        if !remove.is_empty() {
            clauses.push(format!("REMOVE {}", remove.join(", ")));
        }
        let mut add = Vec::new();
        for tries in TRIES_ATTRIBUTES {
            let Some(AttributeValue::Ss(names)) = replaced.get(tries) else {
                continue;
            };
            // As many as use up the budget do so as well as more, which were tries of several codes.
            let names = names.iter().take(TRIES as usize).cloned().collect();
            add.push(format!("{tries} :{tries}"));
            update = update.expression_attribute_values(format!(":{tries}"), AttributeValue::Ss(names));
        }
        if !add.is_empty() {
            clauses.push(format!("ADD {}", add.join(", ")));
        }
        let outcome = update
            .condition_expression(conditions.join(" AND "))
            .update_expression(clauses.join(" "))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(None),
            Err(error) => match condition_failure(&error) {
                Some(item) => Ok(Some(item)),
                None => Err(DynamoDb.record_failure("UpdateItem reset codes", &error)),
            },
        }
    }

    /// Reserves one of the tries that the code of `username` allows in `budget`, before the code is compared. A code
    /// that was sent to another user than `holder` counts as none; if this is `None`, every holder's code counts.
    pub async fn reserve_try(
        &self,
        username: &Username,
        holder: Option<&CodeHolder>,
        budget: Budget,
        now: Timestamp,
    ) -> Result<ReservedTry, TryError> {
        let (name, tries) = (random::try_name(), tries(budget));
        // A try that is repeated because its answer was lost is in the set already.
        let mut condition = format!(
            "expires_at > :now \
             AND (attribute_not_exists({tries}) OR size({tries}) < :max OR contains({tries}, :name))"
        );
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key(CODE_KEY, code_key(username.normalised()));
        if let Some(holder) = holder {
            condition += " AND code_holder = :holder";
            update = update.expression_attribute_values(":holder", bytes(holder.as_bytes()));
        }
        let outcome = update
            .condition_expression(condition)
            .update_expression(format!("ADD {tries} :try"))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":max", number(TRIES))
            .expression_attribute_values(":name", text(&name))
            .expression_attribute_values(":try", AttributeValue::Ss(vec![name.clone()]))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(output) => {
                let item = Item(output.attributes.unwrap_or_default());
                let code = LiveCode {
                    code_id: CodeId::new(item.text("code_id")?.to_owned()),
                    hash: CodeHash::from_bytes(item.bytes("code_hash")?.to_owned()),
                    key_version: item.text("key_version")?.to_owned(),
                };
                Ok(ReservedTry { code, budget, name })
            }
            Err(error) => {
                let item = condition_failure(&error)
                    .ok_or_else(|| DynamoDb.record_failure("UpdateItem reset codes", &error))?;
                let is_live = item.optional_instant("expires_at")?.is_some_and(|end| end > now);
                if is_live && holder.map_or(Ok(true), |holder| is_of(&item, holder))? {
                    Err(TryError::Exhausted)
                } else {
                    Err(TryError::NoCode)
                }
            }
        }
    }

    /// Releases a try that matched, or with which nothing was compared.
    pub async fn release_try(&self, username: &Username, reserved: &ReservedTry) -> Result<(), Failure> {
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key(CODE_KEY, code_key(username.normalised()))
            .condition_expression("code_id = :code_id")
            .update_expression(format!("DELETE {} :try", tries(reserved.budget)))
            .expression_attribute_values(":code_id", text(reserved.code.code_id.as_str()))
            .expression_attribute_values(":try", AttributeValue::Ss(vec![reserved.name.clone()]))
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            // The code was replaced or used meanwhile, and its tries went with it.
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.record_failure("UpdateItem reset codes", &error)),
        }
    }
}

impl fmt::Debug for ReplacedCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ReplacedCode")
    }
}

impl From<Failure> for TryError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// The key of a username's code.
pub(super) fn code_key(username: &str) -> AttributeValue {
    text(name_hash(username))
}

/// The attributes that count the tries and the sends of both budgets.
pub(super) fn tries_and_sends() -> Vec<String> {
    let sends = |budget| (0..DAILY_SENDS.sends).map(move |place| send(budget, place));
    let sends = [Budget::Known, Budget::Other].into_iter().flat_map(sends);
    TRIES_ATTRIBUTES.map(str::to_owned).into_iter().chain(sends).collect()
}

fn is_of(code: &Item, holder: &CodeHolder) -> Result<bool, Failure> {
    Ok(code.bytes("code_holder")? == holder.as_bytes())
}

/// The attribute with the tries that count in `budget`.
const fn tries(budget: Budget) -> &'static str {
    match budget {
        Budget::Known => "known_tries",
        Budget::Other => "other_tries",
    }
}

/// The attribute with the send that counts in `budget` at this place, from the latest one on.
fn send(budget: Budget, place: usize) -> String {
    format!("{}_{place}", budget.prefix())
}

/// The attribute of the send that has to be old enough before another is allowed.
fn oldest_send(budget: Budget, limit: SendLimit) -> String {
    send(budget, limit.sends - 1)
}
