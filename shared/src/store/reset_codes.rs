use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::Store;
use super::item::{Item, bytes, condition_failure, instant, number, text, ttl};
use crate::aws::Dependency::DynamoDb;
use crate::domain::{CodeHash, CodeHolder, CodeId, DAILY_SENDS, HOURLY_SENDS, TRIES, Timestamp, Username};
use crate::error::Failure;
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
}

/// The item that a new code replaced, to be [restored](Store::restore_code) if the mail service refuses all mails with
/// the new code.
#[derive(Clone)]
pub struct ReplacedCode(HashMap<String, AttributeValue>);

/// The attributes of a code, which it has all of or none of.
const CODE_ATTRIBUTES: [&str; 5] = ["code_id", "code_holder", "code_hash", "key_version", "expires_at"];

/// A code that was sent and is neither used nor expired. Unless `holder` is the user as read now, it was revoked.
#[derive(Clone, Debug)]
pub struct LiveCode {
    /// Names its sending.
    pub code_id: CodeId,
    /// The user it was sent to, as read then.
    pub holder: CodeHolder,
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
    name: String,
}

/// Why no try could be reserved.
#[derive(Debug)]
pub enum TryError {
    /// There is no code, or it is used or expired.
    NoCode,
    /// The tries of this holder's code are used up.
    Exhausted(CodeHolder),
    /// The reservation could not be completed.
    Failure(Failure),
}

impl Store {
    /// Replaces the code of `username`, with fresh tries, and counts a send, unless as many were sent in the last
    /// hour or day as may be. `Err` is the time until another may be sent; nothing is changed then.
    ///
    /// A retry after a lost response finds the new code in place and cannot return the one before it.
    pub async fn replace_code(
        &self,
        username: &Username,
        code: &NewCode,
        now: Timestamp,
    ) -> Result<Result<ReplacedCode, Duration>, Failure> {
        // The last sends move down by one. All of an update's right sides are read before anything is written.
        let moves = (1..DAILY_SENDS.0)
            .map(|send| format!("sent_{send} = if_not_exists(sent_{}, :never)", send - 1))
            .collect::<Vec<_>>()
            .join(", ");
        let (hourly, daily) = (oldest_send(HOURLY_SENDS), oldest_send(DAILY_SENDS));
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key("username", text(username.normalised()))
            .condition_expression(format!(
                "(attribute_not_exists(code_id) OR code_id <> :code_id) \
                 AND (attribute_not_exists({hourly}) OR {hourly} <= :hour_ago) \
                 AND (attribute_not_exists({daily}) OR {daily} <= :day_ago)"
            ))
            .update_expression(format!(
                "SET code_id = :code_id, code_holder = :holder, code_hash = :code_hash, \
                 key_version = :key_version, expires_at = :expires_at, #ttl = :ttl, sent_0 = :now, {moves} \
                 REMOVE tries"
            ))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":hour_ago", instant(now - HOURLY_SENDS.1))
            .expression_attribute_values(":day_ago", instant(now - DAILY_SENDS.1))
            .expression_attribute_values(":never", number(0))
            .expression_attribute_values(":code_id", text(code.code_id.as_str()))
            .expression_attribute_values(":holder", bytes(code.holder.as_bytes()))
            .expression_attribute_values(":code_hash", bytes(code.hash.as_bytes()))
            .expression_attribute_values(":key_version", text(&code.key_version))
            .expression_attribute_values(":expires_at", instant(code.expires_at))
            .expression_attribute_values(":ttl", ttl(code.expires_at.max(now + DAILY_SENDS.1)))
            .expression_attribute_values(":now", instant(now))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(output) => Ok(Ok(ReplacedCode(output.attributes.unwrap_or_default()))),
            Err(error) => match condition_failure(&error) {
                Some(item) if item.optional_text("code_id") == Some(code.code_id.as_str()) => {
                    Ok(Ok(ReplacedCode(HashMap::new())))
                }
                Some(item) => {
                    let next = [HOURLY_SENDS, DAILY_SENDS].into_iter().filter_map(|limit| {
                        let sent = item.optional_instant(&oldest_send(limit)).ok()??;
                        Some((sent + limit.1).since(now))
                    });
                    Ok(Err(next.max().unwrap_or_default()))
                }
                None => Err(DynamoDb.failure("UpdateItem reset codes", &error)),
            },
        }
    }

    /// Undoes [`Self::replace_code`] for a code that certainly reached nobody: puts the code before it back, and gives
    /// the send back. Changes nothing if the new code was replaced or used in the meantime.
    ///
    /// Tries that were used in the meantime stay counted, together with those of the code before. They also keep the
    /// send counted: each new code has tries of its own, which must not be had for nothing while mails are refused.
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
            .key("username", text(username.normalised()))
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
        let mut condition = "code_id = :new".to_owned();
        if is_untried {
            condition += " AND attribute_not_exists(tries)";
            // The sends move back up by one. The one that had moved out was too old to count.
            for send in 1..DAILY_SENDS.0 {
                set.push(format!("sent_{} = if_not_exists(sent_{send}, :never)", send - 1));
            }
            set.push(format!("{} = :never", oldest_send(DAILY_SENDS)));
            update = update.expression_attribute_values(":never", number(0));
        }
        let mut clauses = Vec::new();
        if !set.is_empty() {
            clauses.push(format!("SET {}", set.join(", ")));
        }
        if !remove.is_empty() {
            clauses.push(format!("REMOVE {}", remove.join(", ")));
        }
        if let Some(tries) = replaced.get("tries") {
            clauses.push("ADD tries :tries".to_owned());
            update = update.expression_attribute_values(":tries", tries.clone());
        }
        let outcome = update
            .condition_expression(condition)
            .update_expression(clauses.join(" "))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(None),
            Err(error) => match condition_failure(&error) {
                Some(item) => Ok(Some(item)),
                None => Err(DynamoDb.failure("UpdateItem reset codes", &error)),
            },
        }
    }

    /// Reserves one of the tries of the code of `username`, before it is compared.
    pub async fn reserve_try(&self, username: &Username, now: Timestamp) -> Result<ReservedTry, TryError> {
        let name = random::unique();
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key("username", text(username.normalised()))
            // A try that is repeated because its answer was lost is in the set already.
            .condition_expression(
                "expires_at > :now \
                 AND (attribute_not_exists(tries) OR size(tries) < :max OR contains(tries, :name))",
            )
            .update_expression("ADD tries :try")
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
                    holder: holder(&item)?,
                    hash: CodeHash::from_bytes(item.bytes("code_hash")?.to_owned()),
                    key_version: item.text("key_version")?.to_owned(),
                };
                Ok(ReservedTry { code, name })
            }
            Err(error) => match condition_failure(&error) {
                Some(item) if item.optional_instant("expires_at")?.is_some_and(|end| end > now) => {
                    Err(TryError::Exhausted(holder(&item)?))
                }
                Some(_) => Err(TryError::NoCode),
                None => Err(DynamoDb.failure("UpdateItem reset codes", &error).into()),
            },
        }
    }

    /// Gives back a try that matched, or with which nothing was compared.
    pub async fn give_back_try(&self, username: &Username, reserved: &ReservedTry) -> Result<(), Failure> {
        let outcome = self
            .client
            .update_item()
            .table_name(&self.tables.reset_codes)
            .key("username", text(username.normalised()))
            .condition_expression("code_id = :code_id")
            .update_expression("DELETE tries :try")
            .expression_attribute_values(":code_id", text(reserved.code.code_id.as_str()))
            .expression_attribute_values(":try", AttributeValue::Ss(vec![reserved.name.clone()]))
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            // The code was replaced or used meanwhile, and its tries went with it.
            Err(error) if condition_failure(&error).is_some() => Ok(()),
            Err(error) => Err(DynamoDb.failure("UpdateItem reset codes", &error)),
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

fn holder(code: &Item) -> Result<CodeHolder, Failure> {
    code.bytes("code_holder").map(|holder| CodeHolder::from_bytes(holder.to_owned()))
}

/// The attribute of the send that has to be old enough before another is allowed.
fn oldest_send((limit, _): (usize, Duration)) -> String {
    format!("sent_{}", limit - 1)
}
