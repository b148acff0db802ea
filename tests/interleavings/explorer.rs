//! The search through every order in which the calls of a scenario's clients can be answered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::beginning::Beginning;
use crate::clients::Client;
use crate::run::{Clients, End};

/// The length of the shortest wait. A run that takes longer is repeated, because a wait could have ended during it.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// One step of an order: a waiting call is applied to the tables, and its response is delivered or lost.
#[derive(Clone)]
pub(crate) struct Step {
    /// The client's position in the scenario.
    pub(crate) client: usize,
    /// The call's operation and table. A client never waits for two equal ones.
    pub(crate) call: String,
    /// True if the response is lost, so that the SDK retries the call.
    pub(crate) lost: bool,
    /// The items that it reads or writes, with true for a write.
    pub(crate) items: Vec<(String, bool)>,
}

impl Step {
    /// Returns true if the order of the two steps makes no difference, because neither writes an item that the other
    /// reads or writes. Different calls that one client waits for at the same time are parts of a `join`, so the client
    /// does not depend on their order. Two lost responses do not commute, because they share one budget.
    fn commutes_with(&self, other: &Self) -> bool {
        let apart = |(item, written): &(String, bool)| {
            other.items.iter().all(|(other, other_written)| item != other || !(*written || *other_written))
        };
        (self.client, &self.call) != (other.client, &other.call)
            && !(self.lost && other.lost)
            && self.items.iter().all(apart)
    }

    /// Returns true if another client writes an item of this step, or reads one that this step writes.
    fn conflicts_with(&self, touches: &Touches) -> bool {
        self.items.iter().any(|(item, written)| {
            let others = touches.get(item).into_iter().flatten();
            others
                .into_iter()
                .any(|(client, other_written)| *client != self.client && (*written || *other_written))
        })
    }

    fn record_in(&self, touches: &mut Touches) {
        for (item, written) in &self.items {
            touches.entry(item.clone()).or_default().insert((self.client, *written));
        }
    }
}

impl PartialEq for Step {
    /// Ignores the items, because some have names that differ between runs.
    fn eq(&self, other: &Self) -> bool {
        (self.client, &self.call, self.lost) == (other.client, &other.call, other.lost)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}{}", self.client, self.call, if self.lost { " (response lost)" } else { "" })
    }
}

/// The clients that read or write each item, with true for a write.
type Touches = HashMap<String, HashSet<(usize, bool)>>;

/// Runs `clients` from `beginning` in every order, with at most `losses` lost responses in each, and calls `check` at
/// each end.
///
/// Orders that differ only in the sequence of commuting steps have the same end, so only one of them is run. Two
/// techniques find them (Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996):
///
/// - Sleep sets: once everything after a step is explored, the step sleeps in the sibling branches until a step that it
///   does not commute with wakes it. A branch in which all steps sleep was explored before.
/// - Singleton persistent sets: a step that commutes with all steps of the other clients is taken immediately. Their
///   steps are learned from the runs. If a run shows a new one that does not commute, the search starts again.
pub(crate) fn explore(
    scenario: &str,
    beginning: &Beginning,
    clients: &[Client],
    losses: usize,
    check: impl Fn(&End<'_>),
) {
    let runtime = runtime();
    let started = Instant::now();
    let connected = runtime.block_on(async { Clients::new(clients) });
    let (mut touched, mut alone) = (Touches::new(), Touches::new());
    let (mut ends, mut cut, mut calls, mut repeated) = (0_u32, 0_u32, 0, 0);
    let mut open = vec![(Vec::<Step>::new(), Vec::<Step>::new())];
    while let Some(branch) = open.pop() {
        let begun = Instant::now();
        let (mut path, mut asleep) = branch.clone();
        let (mut branches, mut conflict) = (Vec::new(), false);
        let end = runtime.block_on(async {
            let mut run = connected.start(beginning).await;
            for step in &path {
                run.take(step).await;
            }
            loop {
                let mut steps = run.steps();
                if steps.is_empty() {
                    return Some(run.end(&runtime));
                }
                if path.iter().filter(|step| step.lost).count() < losses {
                    // A retry of a call that writes nothing is the same as a later call.
                    let writing = steps.iter().filter(|step| step.items.iter().any(|(_, written)| *written));
                    let losing = writing.filter(|step| clients[step.client].loses);
                    let lost: Vec<Step> = losing.map(|step| Step { lost: true, ..step.clone() }).collect();
                    steps.extend(lost);
                }
                for step in &steps {
                    conflict |= step.conflicts_with(&alone);
                    step.record_in(&mut touched);
                }
                let lone = steps.iter().find(|step| {
                    !step.conflicts_with(&touched)
                        && !steps.contains(&Step { lost: true, ..Step::clone(step) })
                });
                if let Some(lone) = lone.cloned() {
                    lone.record_in(&mut alone);
                    steps = vec![lone];
                }
                let mut awake = steps.into_iter().filter(|step| !asleep.contains(step));
                let next = awake.next()?;
                let mut explored = asleep.clone();
                explored.push(next.clone());
                for other in awake {
                    let asleep = explored.iter().filter(|step| step.commutes_with(&other)).cloned().collect();
                    branches.push(([&path[..], std::slice::from_ref(&other)].concat(), asleep));
                    explored.push(other);
                }
                asleep.retain(|step| step.commutes_with(&next));
                run.take(&next).await;
                path.push(next);
            }
        });
        if begun.elapsed() >= SHORTEST_WAIT {
            repeated += 1;
            assert!(repeated < 100, "{scenario}: each of 100 runs took a second");
            open.push(branch);
            continue;
        }
        repeated = 0;
        if conflict {
            (ends, cut, alone, open) = (0, 0, Touches::new(), vec![Default::default()]);
            continue;
        }
        open.extend(branches);
        calls += path.len();
        match end {
            Some(end) => {
                ends += 1;
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&end))) {
                    let order: Vec<String> = path.iter().map(ToString::to_string).collect();
                    println!("{scenario}, order {ends}: {order:#?}");
                    resume_unwind(panic);
                }
            }
            None => cut += 1,
        }
    }
    println!(
        "{scenario}: {ends} orders to the end, {cut} cut short, {calls} calls, {:.1} s",
        started.elapsed().as_secs_f32()
    );
}

/// Builds a runtime with one thread for the clients and one for hashing. It has no timer, so that a client that waits
/// for one fails.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().unwrap()
}
