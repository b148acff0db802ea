//! The event of `CloudWatch` Logs, and the lines of the log in it
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html>).

use std::io::Read;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;
use shared::domain::{Timestamp, UserId};
use shared::failure::Failure;

/// The most bytes of uncompressed lines that one event is read for. Lambda takes events of at most 1 MB.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// An event with lines of a log: as JSON, compressed by gzip, in base64.
#[derive(Debug, Deserialize)]
pub struct Event {
    awslogs: Compressed,
}

#[derive(Debug, Deserialize)]
struct Compressed {
    data: String,
}

/// A sign-in from a network that was not known.
#[derive(Debug)]
pub(crate) struct SignIn {
    /// The id that `CloudWatch` Logs gave the line.
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) user_id: UserId,
    pub(crate) source_ip: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    message_type: String,
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    id: String,
    /// In milliseconds since the Unix epoch.
    timestamp: i64,
    message: String,
}

/// The fields of a line (`shared::telemetry`) that tell of such a sign-in.
#[derive(Deserialize)]
struct Line {
    event: String,
    outcome: Option<String>,
    new_network: Option<bool>,
    user_id: Option<String>,
    source_ip: Option<IpAddr>,
}

impl Event {
    /// The sign-ins from new networks among the lines.
    pub(crate) fn sign_ins(&self) -> Result<Vec<SignIn>, Failure> {
        let batch = self.batch()?;
        // It tests the subscription with a message of another type.
        if batch.message_type != "DATA_MESSAGE" {
            return Ok(Vec::new());
        }
        let sign_ins = batch.log_events.into_iter().map(LogEvent::sign_in);
        sign_ins.filter_map(Result::transpose).collect()
    }

    fn batch(&self) -> Result<Batch, Failure> {
        let compressed = BASE64_STANDARD.decode(&self.awslogs.data);
        let compressed = compressed.map_err(|_| malformed("no base64"))?;
        let mut json = Vec::new();
        let mut decoder = GzDecoder::new(&*compressed).take(MAX_BYTES + 1);
        decoder.read_to_end(&mut json).map_err(|_| malformed("no gzip"))?;
        if json.len() as u64 > MAX_BYTES {
            return Err(malformed("too large"));
        }
        serde_json::from_slice(&json).map_err(|_| malformed("no lines of a log"))
    }
}

impl LogEvent {
    /// The sign-in from a new network that the line tells of, if it does.
    fn sign_in(self) -> Result<Option<SignIn>, Failure> {
        let line: Line =
            serde_json::from_str(&self.message).map_err(|_| malformed("no line of this service"))?;
        let is_meant = line.event == "signin"
            && line.outcome.as_deref() == Some("signed_in")
            && line.new_network == Some(true);
        if !is_meant {
            return Ok(None);
        }
        let user_id = line.user_id.as_deref().and_then(UserId::parse);
        let (user_id, source_ip) =
            user_id.zip(line.source_ip).ok_or_else(|| malformed("a sign-in without user or address"))?;
        let at = Timestamp::from_micros(self.timestamp.saturating_mul(1000));
        Ok(Some(SignIn { id: self.id, at, user_id, source_ip }))
    }
}

fn malformed(problem: &str) -> Failure {
    Failure::Defect(format!("the event is malformed: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn an_event_that_expands_beyond_the_limit_is_refused() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let bytes = usize::try_from(MAX_BYTES).unwrap() + 1;
        encoder.write_all(&vec![b' '; bytes]).unwrap();
        let data = BASE64_STANDARD.encode(encoder.finish().unwrap());
        let failure = Event { awslogs: Compressed { data } }.sign_ins().unwrap_err();
        assert_eq!(failure, malformed("too large"));
    }
}
