//! One run of a scenario's clients, and the state at its end.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::client::result::ConnectorError;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, spawn_blocking, yield_now};

use crate::beginning::Beginning;
use crate::clients::{Act, Answer, Client};
use crate::explorer::Step;
use crate::world::{
    ATTEMPTS, Applied, RESET_CODES, SESSION_ID, SESSIONS, SOURCE_IPS, USERS, Waiting, World, failures_of,
    response, sends_of, tries_of,
};

/// The state at the end of a run.
pub(crate) struct End<'a> {
    /// In the order of the scenario's clients.
    pub(crate) answers: Vec<Answer>,
    /// In the order in which the calls were applied.
    pub(crate) applied: Vec<Applied>,
    pub(crate) mails: Vec<Value>,
    tables: BTreeMap<&'static str, Vec<Value>>,
    world: World,
    runtime: &'a Runtime,
}

/// The clients of a scenario. Each has its own function, which stays warm between runs.
pub(crate) struct Clients {
    acts: Vec<Act>,
    world: World,
}

/// A run in progress.
pub(crate) struct Run {
    world: World,
    clients: JoinSet<(usize, Answer)>,
    /// True if any client has made progress since this was last reset.
    moved: Arc<AtomicBool>,
}

impl Clients {
    pub(crate) fn new(clients: &[Client]) -> Self {
        let world = World::new();
        let acts =
            clients.iter().enumerate().map(|(number, client)| (client.connect)(&world.connect(Some(number))));
        Self { acts: acts.collect(), world }
    }

    /// Starts all clients.
    pub(crate) async fn start(&self, beginning: &Beginning) -> Run {
        let world = self.world.clone();
        world.fill(&beginning.world);
        let (mut clients, moved) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for (number, act) in self.acts.iter().enumerate() {
            let (mut act, moved) = (act(), Arc::clone(&moved));
            clients.spawn(poll_fn(move |context| {
                moved.store(true, Ordering::Relaxed);
                act.as_mut().poll(context).map(|answer| (number, answer))
            }));
        }
        let run = Run { world, clients, moved };
        run.settle().await;
        run
    }
}

impl Run {
    /// Returns once every client has ended or waits for a response. Password hashes are computed on the one blocking
    /// thread, before the empty task that is queued here. If no client has made progress when that task is done, none
    /// will.
    async fn settle(&self) {
        while {
            self.moved.store(false, Ordering::Relaxed);
            spawn_blocking(|| ()).await.unwrap();
            yield_now().await;
            self.moved.load(Ordering::Relaxed)
        } {}
    }

    /// The possible next steps, in the same order in each run.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.world.state().waiting.iter().map(|call| call.step.clone()).collect();
        steps.sort_by(|a, b| (a.client, &a.call).cmp(&(b.client, &b.call)));
        assert!(steps.windows(2).all(|pair| pair[0] != pair[1]), "two calls are alike");
        steps
    }

    pub(crate) async fn take(&mut self, step: &Step) {
        let (answer, outcome) = {
            let mut state = self.world.state();
            let waiting = |call: &Waiting| call.step == Step { lost: false, ..step.clone() };
            let place =
                state.waiting.iter().position(waiting).expect("the run repeats the steps of an earlier one");
            let Waiting { operation, body, answer, .. } = state.waiting.swap_remove(place);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let outcome = state.apply(&operation, &body);
            let done = outcome.is_ok();
            state.applied.push(Applied {
                client: step.client,
                call: step.call.clone(),
                done,
                lost: step.lost,
            });
            (answer, outcome)
        };
        let lost = || Err(ConnectorError::io("the response was lost".into()));
        answer.send(if step.lost { lost() } else { Ok(response(outcome)) }).unwrap();
        self.settle().await;
    }

    pub(crate) fn end(mut self, runtime: &Runtime) -> End<'_> {
        let mut answers = BTreeMap::new();
        while let Some(answer) = self.clients.try_join_next() {
            answers.extend([answer.unwrap()]);
        }
        assert!(self.clients.is_empty(), "a client waits for something other than a call");
        let tables = self.world.tables();
        let (applied, mails) = {
            let mut state = self.world.state();
            (std::mem::take(&mut state.applied), std::mem::take(&mut state.mails))
        };
        let answers = answers.into_values().collect();
        End { answers, applied, mails, tables, world: self.world, runtime }
    }
}

impl End<'_> {
    /// Runs a client after all others, and returns its answer.
    pub(crate) fn after(&self, client: &Client) -> Answer {
        self.world.answer(client, self.runtime)
    }

    pub(crate) fn password_is(&self, password: &str) -> bool {
        let answer = self.after(&Client::signs_in(password));
        answer.is_success() || ["not_activated", "change_password"].contains(&answer.error())
    }

    /// Returns true if the token of a sign-in is valid, and asserts that its session is valid exactly then.
    pub(crate) fn accepts(&self, signed_in: &Answer) -> bool {
        let session = self.after(&Client::resumes(signed_in.body["session_token"].as_str().unwrap()));
        let accepted = self.accepts_token(signed_in.token());
        assert_eq!(session.status, if accepted { 202 } else { 400 });
        accepted
    }

    pub(crate) fn accepts_token(&self, token: &str) -> bool {
        match self.after(&Client::presents(token)).status {
            422 => true,
            401 => false,
            status => panic!("{status}"),
        }
    }

    /// The item of the user's code, valid or not.
    pub(crate) fn code(&self) -> &Value {
        &self.tables[RESET_CODES][0]
    }

    /// The number of used tries of the user's code in both budgets.
    pub(crate) fn tries(&self) -> usize {
        self.tries_of("known") + self.tries_of("other")
    }

    pub(crate) fn tries_of(&self, budget: &str) -> usize {
        tries_of(&self.tables[RESET_CODES], budget)
    }

    /// The number of sends in both budgets.
    pub(crate) fn sends(&self) -> usize {
        self.sends_of("known") + self.sends_of("other")
    }

    pub(crate) fn sends_of(&self, budget: &str) -> usize {
        sends_of(&self.tables[RESET_CODES], budget)
    }

    /// The number of the user's sessions that were not ended individually.
    pub(crate) fn sessions(&self) -> usize {
        self.tables[SESSIONS].iter().filter(|session| session["ended_by"].is_null()).count()
    }

    pub(crate) fn session_ids(&self) -> Vec<usize> {
        let id = |session: &Value| session[SESSION_ID]["N"].as_str().unwrap().parse().unwrap();
        self.tables[SESSIONS].iter().map(id).collect()
    }

    /// The number of failures in the user's budget `known` or `other`.
    pub(crate) fn failures_of(&self, budget: &str) -> usize {
        failures_of(&self.tables[USERS], budget)
    }

    /// The known networks of the user, most recent first.
    pub(crate) fn networks(&self) -> Vec<String> {
        let networks = self.tables[USERS][0]["networks"]["L"].as_array().into_iter().flatten();
        networks.map(|network| network["S"].as_str().unwrap().to_owned()).collect()
    }

    /// The number of failures of the unknown user.
    pub(crate) fn failures_of_stub(&self) -> usize {
        failures_of(&self.tables[ATTEMPTS], "other")
    }

    /// The number of failures of the only source address.
    pub(crate) fn failures_of_address(&self) -> usize {
        self.tables[SOURCE_IPS][0]["failures"]["N"].as_str().unwrap().parse().unwrap()
    }

    /// The number of items in all tables.
    pub(crate) fn items(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }

    /// The positions, among the applied calls, of the successful calls of this kind by a client.
    pub(crate) fn done(&self, client: usize, call: &str) -> Vec<usize> {
        let done = |applied: &Applied| applied.done && applied.client == client && applied.call == call;
        (0..self.applied.len()).filter(|place| done(&self.applied[*place])).collect()
    }

    /// Returns true if the response to a call of this kind by a client was lost.
    pub(crate) fn lost(&self, client: usize, call: &str) -> bool {
        self.applied.iter().any(|applied| applied.lost && applied.client == client && applied.call == call)
    }

    /// The number of sessions that the user's item counts.
    pub(crate) fn sessions_opened(&self) -> usize {
        self.tables[USERS][0]["sessions_opened"]["N"].as_str().unwrap().parse().unwrap()
    }

    /// The number of the user's own password changes that the item records.
    pub(crate) fn own_changes(&self) -> usize {
        self.tables[USERS][0]["own_changes"]["L"].as_array().unwrap().len()
    }

    /// The number of mails that notify of a changed password.
    pub(crate) fn notices(&self) -> usize {
        self.mails_about("Your Postern password was changed").len()
    }

    pub(crate) fn mails_with_codes(&self) -> Vec<&Value> {
        self.mails_about("Reset your Postern password")
    }

    fn mails_about(&self, heading: &str) -> Vec<&Value> {
        let subject =
            |mail: &Value| mail["Content"]["Simple"]["Subject"]["Data"].as_str().unwrap().to_owned();
        self.mails.iter().filter(|mail| subject(mail).starts_with(heading)).collect()
    }
}
