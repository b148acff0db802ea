//! Random sequences of attempts on one username, and of charges to one source address, compared with the sequential
//! rules.
//!
//! The store's calls run against the embedded DynamoDB with their real condition expressions. The time is an argument,
//! so waits and whole days pass immediately. Other events can come between the reading and the commit of an attempt:
//! other attempts, retries, resets, password changes and the passage of time.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use shared::domain::{CodeId, Network, PasswordHash, SecurityStamp, Timestamp, User, Username};
use shared::failure::Refused;
use shared::password_changes::PasswordChanges;
use shared::settings::Settings;
use shared::store::{AddressBudget, AddressLimit, Attempt, Candidate, Commit, PasswordChange, Store};

use crate::beginning::Beginning;
use crate::clients::USERNAME;
use crate::rule::{Budget, DAY, Outcome, Request, Rule};

/// The number of sequences for each property.
const CASES: u32 = 80;
const MICROSECOND: Duration = Duration::from_micros(1);
/// The time at which all sequences begin, in microseconds since the Unix epoch.
const START: i64 = 1_800_000_000_000_000;
/// A well-formed hash. No test verifies it.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$4O7+kCWYXl7T9/8aD9Wj3Q$f6poR1PRgPWLiYLd2Ehal82cKodMOBG8MC0z3tSte8s";

/// One event of a sequence. Networks are numbered, see [`address`].
#[derive(Clone, Debug)]
enum Event {
    /// An attempt is read, and is either refused or goes on to the comparison of its password.
    Read { network: u8, password: Typed },
    /// One of the open attempts is committed.
    Commit(Index),
    /// An attempt is read and committed without any event in between.
    Attempt { network: u8, password: Typed },
    /// The SDK retries a commit of the present instant after a lost response.
    Retry(Index),
    /// Time passes.
    Pass(Duration),
    /// Time passes until the wait of one budget is over, or until a microsecond before.
    PassWait { is_known: bool, is_over: bool },
    /// Time passes until the failures of one budget are a day old, or until a microsecond before.
    PassDay { is_known: bool, is_over: bool },
    /// The user resets the password with a code.
    Reset { network: u8 },
    /// The user changes the password.
    Change { network: u8 },
    /// An operator sets the password.
    Set,
    /// An operator clears all failures.
    Unlock,
}

/// The password of an attempt.
#[derive(Clone, Copy, Debug)]
enum Typed {
    /// The password that is right when the attempt is read.
    Right,
    /// The password that was right before the last change.
    Former,
    Wrong,
}

/// A source address in the network with this number.
fn address(network: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, network, 7).into()
}

/// The store, and the rule that it is compared with.
struct Sequence<'a> {
    tables: &'a Beginning,
    store: Store,
    changes: PasswordChanges,
    username: Username,
    rule: Rule,
    now: Timestamp,
    /// The stamps of the passwords, oldest first.
    stamps: Vec<SecurityStamp>,
    /// The attempts that were read and not refused.
    open: Vec<Request>,
    /// The attempts that were committed at the present instant.
    done: Vec<Request>,
    ids: usize,
}

impl<'a> Sequence<'a> {
    fn new(tables: &'a Beginning, is_user: bool, failures: [u32; 2]) -> Self {
        let name = if is_user { USERNAME } else { "unknown" };
        let username = Username::parse(name).unwrap();
        let mut sequence = Self {
            tables,
            store: tables.store(),
            changes: tables.password_changes(),
            username,
            rule: Rule { is_user, ..Rule::default() },
            now: Timestamp::from_micros(START),
            stamps: Vec::new(),
            open: Vec::new(),
            done: Vec::new(),
            ids: 0,
        };
        if is_user {
            let [known, other] = failures;
            for (budget, failures) in [("known", known), ("other", other)] {
                tables.set_failures(budget, failures, START);
            }
            let last_failure = Some(sequence.now);
            let budget = |failures| Budget { failures, last_failure, last_attempt: None };
            (sequence.rule.known, sequence.rule.other) = (budget(known), budget(other));
            sequence.stamps.push(sequence.user().security_stamp);
        }
        sequence
    }

    fn candidate(&self) -> Candidate {
        let candidate = self.store.candidate(&self.username, address(0), None, self.now);
        self.tables.block_on(candidate).unwrap()
    }

    fn user(&self) -> User {
        self.candidate().user().unwrap().clone()
    }

    fn wait(candidate: &Candidate, network: u8, now: Timestamp) -> Option<Duration> {
        candidate.wait(&Network::from(address(network)), now)
    }

    fn run(&mut self, events: &[Event]) {
        for event in events {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Read { network, password } => drop(self.read(*network, *password)),
            Event::Commit(index) => {
                if !self.open.is_empty() {
                    let request = self.open.remove(index.index(self.open.len()));
                    self.commit(request);
                }
            }
            Event::Attempt { network, password } => {
                if self.read(*network, *password) {
                    let request = self.open.pop().unwrap();
                    self.commit(request);
                }
            }
            Event::Retry(index) => {
                if !self.done.is_empty() {
                    let request = self.done.remove(index.index(self.done.len()));
                    self.commit(request);
                }
            }
            Event::Pass(time) => self.pass(*time),
            Event::PassWait { is_known, is_over } => {
                let wait = self.rule.budget(*is_known).wait(self.now).unwrap_or_default();
                self.pass(if *is_over { wait } else { wait.saturating_sub(MICROSECOND) });
            }
            Event::PassDay { is_known, is_over } => {
                let last = self.rule.budget(*is_known).last_failure.unwrap_or(self.now);
                let left = (last + DAY).since(self.now);
                self.pass(if *is_over { left } else { left.saturating_sub(MICROSECOND) });
            }
            Event::Unlock if self.rule.is_user => {
                let user = self.user();
                assert!(self.tables.block_on(self.store.unlock(&user, self.now)).unwrap());
                (self.rule.known, self.rule.other) = (Budget::default(), Budget::default());
            }
            Event::Reset { .. } | Event::Change { .. } | Event::Set if self.rule.is_user => {
                self.change_password(event);
            }
            Event::Unlock | Event::Reset { .. } | Event::Change { .. } | Event::Set => {}
        }
        self.assert_equal();
    }

    /// Reads an attempt, and returns true if it is not refused.
    fn read(&mut self, network: u8, password: Typed) -> bool {
        let candidate = self.candidate();
        let wait = Self::wait(&candidate, network, self.now);
        assert_eq!(wait, self.rule.wait(network, self.now));
        self.ids += 1;
        let password = match password {
            Typed::Right => Some(self.rule.changes),
            Typed::Former => self.rule.changes.checked_sub(1),
            Typed::Wrong => None,
        };
        if wait.is_none() {
            let (id, read_at) = (self.ids.to_string(), self.now);
            self.open.push(Request { id, network, password, read_at, candidate, committed: None });
        }
        wait.is_none()
    }

    /// Commits an attempt as `shared::authentication` does.
    fn commit(&mut self, mut request: Request) {
        let (network, mut committed) = (Network::from(address(request.network)), request.committed);
        let outcome = loop {
            let stamp = request.candidate.user().map(|user| user.security_stamp.clone());
            let compared = self.stamps.iter().position(|other| Some(other) == stamp.as_ref());
            let verdict = compared.is_some() && request.password == compared;
            let is_right = committed.take().map_or(verdict, |(is_right, _)| is_right);
            let attempt = Attempt {
                id: &request.id,
                network: &network,
                is_right,
                is_signin: true,
                opens_session: false,
                now: self.now,
            };
            let commit = self.store.commit_attempt(&request.candidate, &attempt);
            match self.tables.block_on(commit).unwrap() {
                Commit::Made(user) => {
                    // Tokens are issued with the stamp of the compared password, not with a later one.
                    assert_eq!(user.map(|user| user.0.security_stamp), stamp);
                    break if is_right { Outcome::Right } else { Outcome::Wrong };
                }
                Commit::Refused(current) => request.candidate = *current,
            }
            if let Some(wait) = Self::wait(&request.candidate, request.network, self.now) {
                break Outcome::Refused(wait);
            }
        };
        assert_eq!(outcome, self.rule.commit(&mut request, self.now), "{request:?}");
        if request.committed.is_some() {
            self.done.push(request);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if !time.is_zero() {
            self.done.clear();
        }
        // No attempt takes as long as a day.
        self.open.retain(|request| self.now.since(request.read_at) < DAY);
    }

    fn change_password(&mut self, event: &Event) {
        let user = self.user();
        let (hash, code) = (PasswordHash::parse(HASH).unwrap(), CodeId::new("code".to_owned()));
        let (change, networks) = match event {
            Event::Reset { network } => {
                self.tables.put_code(code.as_str());
                (PasswordChange::reset(&user, &hash, &code, address(*network), self.now), vec![*network])
            }
            Event::Change { network } => {
                // At most ten a day.
                let change = PasswordChange::signed_in(&user, &hash, "jti", address(*network), self.now);
                let Ok(change) = change else { return };
                (change, vec![*network])
            }
            _ => (PasswordChange::set(&user, &hash, false, self.now), Vec::new()),
        };
        assert!(self.tables.block_on(self.changes.make(&change)).unwrap());
        self.stamps.push(self.user().security_stamp);
        self.rule.changes += 1;
        self.rule.networks = networks;
        if matches!(event, Event::Reset { .. }) {
            (self.rule.known, self.rule.other) = (Budget::default(), Budget::default());
        }
    }

    /// Asserts that the tables agree with the rule.
    fn assert_equal(&self) {
        let candidate = self.candidate();
        for network in 0..8 {
            let wait = Self::wait(&candidate, network, self.now);
            assert_eq!(wait, self.rule.wait(network, self.now), "network {network}");
        }
        let failures = |budget: &Budget| budget.failures as usize;
        if self.rule.is_user {
            let stored = [self.tables.failures_of("known"), self.tables.failures_of("other")];
            assert_eq!(stored, [failures(&self.rule.known), failures(&self.rule.other)]);
        } else {
            assert_eq!(self.tables.failures_of_stub(), failures(&self.rule.other));
            // Failures that still count may not be removed.
            let forgotten_at = self.rule.other.last_failure.map(|last| (last + DAY).as_seconds());
            assert!(self.tables.end_of_stub() >= forgotten_at);
        }
    }
}

fn network() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0_u8..2, 1 => 0_u8..7]
}

fn typed() -> impl Strategy<Value = Typed> {
    prop_oneof![6 => Just(Typed::Wrong), 3 => Just(Typed::Right), 1 => Just(Typed::Former)]
}

fn event() -> impl Strategy<Value = Event> {
    let (reset, change) = (network(), network());
    prop_oneof![
        8 => (network(), typed()).prop_map(|(network, password)| Event::Attempt { network, password }),
        6 => (network(), typed()).prop_map(|(network, password)| Event::Read { network, password }),
        6 => any::<Index>().prop_map(Event::Commit),
        3 => any::<Index>().prop_map(Event::Retry),
        1 => (0_u64..2_000_000).prop_map(|time| Event::Pass(Duration::from_micros(time))),
        6 => any::<(bool, bool)>().prop_map(|(is_known, is_over)| Event::PassWait { is_known, is_over }),
        2 => any::<(bool, bool)>().prop_map(|(is_known, is_over)| Event::PassDay { is_known, is_over }),
        1 => reset.prop_map(|network| Event::Reset { network }),
        1 => change.prop_map(|network| Event::Change { network }),
        1 => Just(Event::Set),
        1 => Just(Event::Unlock),
    ]
}

fn failures() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0_u32), 2 => 7_u32..12, 1 => 0_u32..25]
}

#[test]
fn attempts_on_a_user_follow_the_sequential_rule() {
    let beginning = Beginning::with_user(&json!({}));
    let events = prop::collection::vec(event(), 1..40);
    proptest!(ProptestConfig::with_cases(CASES), |(failures in [failures(), failures()], events in events)| {
        Sequence::new(&beginning.copy(), true, failures).run(&events);
    });
}

#[test]
fn attempts_on_an_unknown_user_follow_the_sequential_rule() {
    let beginning = Beginning::empty();
    let events = prop::collection::vec(event(), 1..60);
    proptest!(ProptestConfig::with_cases(CASES), |(events in events)| {
        Sequence::new(&beginning.copy(), false, [0, 0]).run(&events);
    });
}

/// An event in the budget of a source address.
#[derive(Clone, Debug)]
enum AddressEvent {
    /// An answer is charged to the budget.
    Charge,
    Pass(Duration),
    /// Time passes until the window is over, or until a microsecond before.
    PassWindow {
        is_over: bool,
    },
}

fn address_event() -> impl Strategy<Value = AddressEvent> {
    prop_oneof![
        6 => Just(AddressEvent::Charge),
        1 => (0_u64..1_000_000_000).prop_map(|time| AddressEvent::Pass(Duration::from_micros(time))),
        2 => any::<bool>().prop_map(|is_over| AddressEvent::PassWindow { is_over }),
    ]
}

#[test]
fn charges_to_an_address_follow_the_sequential_rule() {
    let beginning = Beginning::empty();
    let budgets = vec![
        (AddressBudget::SigninFailures, "SIGNIN_FAILURES_PER_IP", Duration::from_mins(15)),
        (AddressBudget::CodeFailures, "CODE_FAILURES_PER_IP", Duration::from_mins(15)),
        (AddressBudget::ResetMails, "RESET_MAILS_PER_IP", Duration::from_hours(1)),
    ];
    let events = prop::collection::vec(address_event(), 1..30);
    proptest!(ProptestConfig::with_cases(CASES), |(budget in prop::sample::select(budgets), events in events)| {
        let (budget, setting, length) = budget;
        let settings = Settings::new(move |name| (name == setting).then(|| "3".to_owned()));
        let limit = AddressLimit::from_settings(&settings, budget).unwrap().unwrap();
        let tables = beginning.copy();
        let (store, address) = (tables.store(), address(0));
        let (mut now, mut window_end, mut counted) = (Timestamp::from_micros(START), None, 0);
        for event in events {
            let left = window_end.map(|end: Timestamp| end.since(now)).filter(|left| !left.is_zero());
            let wait = left.filter(|_| counted == 3);
            let read = tables.block_on(store.address_wait(address, limit, now)).unwrap();
            prop_assert_eq!(read, wait);
            match event {
                AddressEvent::Charge => {
                    let charged = tables.block_on(store.charge_address(address, limit, now));
                    if left.is_none() {
                        (window_end, counted) = (Some(now + length), 0);
                    }
                    counted += u32::from(charged.is_ok());
                    prop_assert_eq!(charged, wait.map_or(Ok(()), |wait| Err(Refused::Wait(wait))));
                    prop_assert!(tables.end_of_address() >= window_end.map(Timestamp::as_seconds));
                }
                AddressEvent::Pass(time) => now = now + time,
                AddressEvent::PassWindow { is_over } => {
                    let left = left.unwrap_or_default();
                    now = now + if is_over { left } else { left.saturating_sub(MICROSECOND) };
                }
            }
        }
    });
}
