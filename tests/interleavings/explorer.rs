//! The search: every order in which the calls of a scenario's clients can be answered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::beginning::Beginning;
use crate::clients::Client;
use crate::run::{Clients, End};

/// A run that takes longer is repeated: a wait could have ended in it, which is not of its order.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What an order is made of: one waiting call is applied to the tables, and answered or not.
#[derive(Clone)]
pub(crate) struct Step {
    /// The client's place in the scenario.
    pub(crate) client: usize,
    /// The call's operation and table. No client waits for two that are alike.
    pub(crate) call: String,
    /// Whether the answer gets lost, so that the SDK repeats the call.
    pub(crate) lost: bool,
    /// The items that it reads or writes, and whether it writes them.
    pub(crate) items: Vec<(String, bool)>,
}

impl Step {
    /// Whether it makes no difference which of the two comes first: one writes no item that the other one touches. Two
    /// calls that a client waits for at the same time are parts of a `join`, which does not care either, unless they are
    /// the same one. Only so many answers get lost, so losing one is losing none of the others.
    fn commutes_with(&self, other: &Self) -> bool {
        let apart = |(item, written): &(String, bool)| {
            other.items.iter().all(|(other, other_written)| item != other || !(*written || *other_written))
        };
        (self.client, &self.call) != (other.client, &other.call)
            && !(self.lost && other.lost)
            && self.items.iter().all(apart)
    }

    /// Whether another client touches what this one writes, or writes what it touches.
    fn meets(&self, touches: &Touches) -> bool {
        self.items.iter().any(|(item, written)| {
            let others = touches.get(item).into_iter().flatten();
            others
                .into_iter()
                .any(|(client, other_written)| *client != self.client && (*written || *other_written))
        })
    }

    fn note(&self, touches: &mut Touches) {
        for (item, written) in &self.items {
            touches.entry(item.clone()).or_default().insert((self.client, *written));
        }
    }
}

impl PartialEq for Step {
    /// The items are not compared: some have names that are others in each run.
    fn eq(&self, other: &Self) -> bool {
        (self.client, &self.call, self.lost) == (other.client, &other.call, other.lost)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}{}", self.client, self.call, if self.lost { " (answer lost)" } else { "" })
    }
}

/// Who touches an item, and whether by writing it.
type Touches = HashMap<String, HashSet<(usize, bool)>>;

/// Runs `clients` from `beginning` in every order, with at most `losses` answers lost in each, and has `check` look at
/// each end.
///
/// Orders that differ only in which of two steps comes first that commute have the same end, and one of them is run.
/// There are two parts to this (Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996):
///
/// - Sleep sets: once everything after a step is explored, it sleeps in the branches beside it, until a step that it
///   does not commute with wakes it up. Where all steps sleep, everything was explored before.
/// - Persistent sets of one: a step that commutes with all that the other clients ever do is taken at once. What they
///   do is known from the runs; one that shows a client do something else starts the search anew.
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
        let (mut branches, mut surprise) = (Vec::new(), false);
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
                    // To repeat a call that writes nothing is to make it later.
                    let writing = steps.iter().filter(|step| step.items.iter().any(|(_, written)| *written));
                    let losing = writing.filter(|step| clients[step.client].loses);
                    let lost: Vec<Step> = losing.map(|step| Step { lost: true, ..step.clone() }).collect();
                    steps.extend(lost);
                }
                for step in &steps {
                    surprise |= step.meets(&alone);
                    step.note(&mut touched);
                }
                let lone = steps.iter().find(|step| {
                    !step.meets(&touched) && !steps.contains(&Step { lost: true, ..Step::clone(step) })
                });
                if let Some(lone) = lone.cloned() {
                    lone.note(&mut alone);
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
            assert!(repeated < 100, "{scenario}: a run takes a second, again and again");
            open.push(branch);
            continue;
        }
        repeated = 0;
        if surprise {
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

/// One thread for the clients, and one for hashing; no clock, so that nothing that waits for one goes unnoticed.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().unwrap()
}
