//! The sequential rule for attempts with a password, against which the service is compared.

use std::time::Duration;

use shared::domain::Timestamp;
use shared::store::Candidate;

pub(crate) const DAY: Duration = Duration::from_hours(24);

/// The outcome of an attempt, as the client sees it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Refused(Duration),
    Right,
    Wrong,
}

/// An attempt that has been read, and may have been committed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) network: u8,
    /// The number of changes after which the password was right, or `None` if it never was.
    pub(crate) password: Option<usize>,
    pub(crate) read_at: Timestamp,
    pub(crate) candidate: Candidate,
    /// Set by the commit: true if the password was right, and true if the known networks' budget was charged.
    pub(crate) committed: Option<(bool, bool)>,
}

/// The sequential rule, written independently of the service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) is_user: bool,
    /// The number of changes of the password.
    pub(crate) changes: usize,
    pub(crate) networks: Vec<u8>,
    pub(crate) known: Budget,
    pub(crate) other: Budget,
}

/// The rule for one budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) failures: u32,
    pub(crate) last_failure: Option<Timestamp>,
    /// The id of the last counted attempt.
    pub(crate) last_attempt: Option<String>,
}

impl Budget {
    fn is_forgotten(&self, now: Timestamp) -> bool {
        self.failures > 0 && self.last_failure.is_some_and(|last| now.since(last) >= DAY)
    }

    pub(crate) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let last = self.last_failure.filter(|_| self.failures >= 10 && !self.is_forgotten(now))?;
        let wait = Duration::from_secs(1 << (self.failures - 10).min(20)).min(Duration::from_mins(15));
        wait.checked_sub(now.since(last)).filter(|left| !left.is_zero())
    }

    fn count(&mut self, id: &str, is_right: bool, now: Timestamp) {
        if is_right {
            self.failures = 0;
        } else {
            self.failures = if self.is_forgotten(now) { 1 } else { self.failures + 1 };
            self.last_failure = Some(now);
        }
        self.last_attempt = Some(id.to_owned());
    }
}

impl Rule {
    pub(crate) fn is_known(&self, network: u8) -> bool {
        self.networks.contains(&network)
    }

    pub(crate) fn budget(&self, is_known: bool) -> &Budget {
        if is_known { &self.known } else { &self.other }
    }

    pub(crate) fn wait(&self, network: u8, now: Timestamp) -> Option<Duration> {
        self.budget(self.is_known(network)).wait(now)
    }

    /// Commits an attempt, and records in it how it was counted.
    pub(crate) fn commit(&mut self, request: &mut Request, now: Timestamp) -> Outcome {
        let verdict = |is_right| if is_right { Outcome::Right } else { Outcome::Wrong };
        let is_last = |budget: &Budget| budget.last_attempt.as_ref() == Some(&request.id);
        let is_known = self.is_known(request.network);
        if let Some((is_right, counted_in)) = request.committed
            && is_last(self.budget(counted_in))
        {
            return verdict(is_right);
        }
        let is_right = self.is_user && request.password == Some(self.changes);
        if is_last(self.budget(is_known)) {
            return verdict(is_right);
        }
        if let Some(wait) = self.budget(is_known).wait(now) {
            return Outcome::Refused(wait);
        }
        let budget = if is_known { &mut self.known } else { &mut self.other };
        budget.count(&request.id, is_right, now);
        if is_right {
            self.networks.retain(|known| *known != request.network);
            self.networks.insert(0, request.network);
            self.networks.truncate(5);
        }
        request.committed = Some((is_right, is_known));
        verdict(is_right)
    }
}
