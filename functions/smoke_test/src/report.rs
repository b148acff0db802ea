//! The report of a test.

use std::fmt;
use std::time::Instant;

use serde::Serialize;
use shared::telemetry;

/// The verdict, and the checks that were made, in their order.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    checks: Vec<Check>,
    /// The check that is being made.
    #[serde(skip)]
    running: Option<(&'static str, Instant)>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    ms: u128,
    /// The reason of a failure. It holds no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

impl Default for Report {
    fn default() -> Self {
        Self { ok: true, checks: Vec::new(), running: None }
    }
}

impl Report {
    /// Makes a check, and returns its result if it passed.
    pub(crate) async fn check<T>(
        &mut self,
        name: &'static str,
        check: impl Future<Output = Result<T, String>>,
    ) -> Option<T> {
        self.running = Some((name, Instant::now()));
        let (result, cause) = match check.await {
            Ok(result) => (Some(result), None),
            Err(cause) => (None, Some(cause)),
        };
        self.finish(cause);
        result
    }

    /// Fails the check that is being made.
    pub(crate) fn interrupt(&mut self, cause: &str) {
        self.finish(Some(cause.to_owned()));
    }

    /// Returns whether all checks passed.
    pub(crate) fn has_passed(&self) -> bool {
        self.ok
    }

    fn finish(&mut self, cause: Option<String>) {
        let Some((name, started)) = self.running.take() else { return };
        if let Some(cause) = &cause {
            telemetry::warn("a check failed", format_args!("{name}: {cause}"));
        }
        let ok = cause.is_none();
        self.ok &= ok;
        self.checks.push(Check { name, ok, ms: started.elapsed().as_millis(), cause });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
