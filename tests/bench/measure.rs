//! The measurements.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use shared::aws::WHOLE_CORE_MB;

use crate::Result;
use crate::calls::Call;
use crate::cost::{MeasuredCall, MeasuredSignin, wait_ms};
use crate::endpoint::{Endpoint, Mode, Operation, Units};
use crate::lambda::{Environment, Invocation, Program};
use crate::peers::{Reference, Verification, find};
use crate::report::{Report, median, progress, ratio};

/// The number of times that each program is started.
const STARTS: usize = 30;
/// The number of measured warm sign-ins.
const SIGNINS: usize = 100;
/// The number of sign-ins before them that are not measured.
const WARM_UP: usize = 5;
/// The number of calls of a light function before its memory is read.
const LIGHT_CALLS: usize = 100;
/// The time by which responses are delayed to find out which operations wait for them. It is longer than a hash or a TLS
/// handshake, so that all concurrent operations have started, and shorter than the time-outs of the functions.
const HOLD: Duration = Duration::from_millis(100);
/// The functions that answer users or gateways and never hash a password.
const LIGHT: [&str; 5] =
    ["authorizer", "forgot_password_check_code", "forgot_password_send_email", "session_signin", "sessions"];

/// The programs to measure, and the means to do it.
pub(crate) struct Bench {
    pub(crate) endpoint: Endpoint,
    pub(crate) functions: Vec<Program>,
    pub(crate) hello: Program,
    pub(crate) calls: Vec<Call>,
    pub(crate) node: Option<Program>,
    pub(crate) reference: Option<Reference>,
    pub(crate) verification: Verification,
}

impl Bench {
    /// Measures the largest binary as `sam deploy` packs it, without the few hundred bytes of zip headers.
    pub(crate) fn sizes(&self, report: &mut Report) -> Result<()> {
        progress("sizes");
        let mut sizes = Vec::new();
        for program in &self.functions {
            let file = program.command.first().ok_or("no binary")?;
            let binary = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::new(6));
            packed.write_all(&binary)?;
            sizes.push((megabytes(packed.finish()?.len() as u64), &program.function.name));
        }
        let (size, name) = worst(sizes)?;
        report.figure_of("zip_mb_max", size, name);
        Ok(())
    }

    /// Counts the instructions until the first poll.
    pub(crate) async fn instructions(&self, report: &mut Report) -> Result<()> {
        let Some(valgrind) = find("valgrind") else {
            report.missing("instructions", &"there is no valgrind");
            return Ok(());
        };
        progress("instructions");
        let hello = self.count(&self.hello, &valgrind, &[]).await?;
        let mut counts = Vec::new();
        for program in &self.functions {
            counts.push((self.count(program, &valgrind, &[]).await? / hello, &program.function.name));
        }
        let (count, name) = worst(counts)?;
        let remark = format!("{name}; hello has {:.2} million", hello / 1e6);
        report.figure_of("init_instructions_vs_hello", count, &remark);
        Ok(())
    }

    /// Counts the instructions of a request that computes no hash, in a warm environment.
    pub(crate) async fn warm_instructions(&self, report: &mut Report) -> Result<()> {
        let Some(valgrind) = find("valgrind") else { return Ok(()) };
        progress("instructions of a request");
        self.endpoint.answer(Mode::Replay);
        let call = self.call("session_signin")?;
        let program = self.program(call.function)?;
        let few = self.count(program, &valgrind, &[call; WARM_UP]).await?;
        let many = self.count(program, &valgrind, &[call; WARM_UP + LIGHT_CALLS]).await?;
        report.figure("instructions_session_signin", (many - few) / LIGHT_CALLS as f64);
        Ok(())
    }

    /// Counts the instructions from the start of a process to the poll after these calls.
    async fn count(&self, program: &Program, valgrind: &Path, calls: &[&Call]) -> Result<f64> {
        let arguments = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
        let program = program.with_memory(WHOLE_CORE_MB).under(valgrind, &arguments);
        let mut environment = program.start(&self.endpoint).await?;
        for call in calls {
            answered(&mut environment, call).await?;
        }
        let written = environment.terminate().await?;
        let (_, count) = written.lines().find_map(|line| line.split_once("refs:")).ok_or("no count")?;
        Ok(count.trim().replace(',', "").parse()?)
    }

    /// Measures the time to the first poll: with a whole core, for which no connection is opened before the first call,
    /// and with the memory sizes of the template.
    pub(crate) async fn starts(&self, report: &mut Report) -> Result<()> {
        self.endpoint.answer(Mode::Replay);
        for (key, whole_core) in [("start_vs_hello", true), ("start_connected_vs_hello", false)] {
            progress(key);
            let deployed = |program: &Program| {
                if whole_core { program.with_memory(WHOLE_CORE_MB) } else { program.clone() }
            };
            let functions: Vec<Program> = self.functions.iter().map(deployed).collect();
            let mut times = vec![(Vec::new(), Vec::new()); functions.len()];
            for _ in 0..STARTS {
                for (program, (hello, times)) in functions.iter().zip(&mut times) {
                    hello.push(self.start(&self.hello).await?);
                    times.push(self.start(program).await?);
                }
            }
            let ratios = functions.iter().zip(times).map(|(program, (hello, times))| {
                (ratio(&times, &hello), (&program.function.name, median(&times), median(&hello)))
            });
            let (figure, (name, time, hello)) = worst(ratios.collect())?;
            report.figure_of(key, figure, name);
            report.time(&format!("{key}: {name}"), time);
            report.time(&format!("{key}: hello"), hello);
        }
        let Some(node) = &self.node else { return Ok(()) };
        let signin = self.program("signin")?.with_memory(WHOLE_CORE_MB);
        let (mut times, mut node_times) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            times.push(self.start(&signin).await?);
            node_times.push(self.start(node).await?);
        }
        report.figure("start_vs_node", ratio(&times, &node_times));
        report.time("start_vs_node: signin", median(&times));
        report.time("start_vs_node: Node", median(&node_times));
        Ok(())
    }

    async fn start(&self, program: &Program) -> Result<f64> {
        let environment = program.start(&self.endpoint).await?;
        let start = environment.start.as_secs_f64();
        environment.stop().await?;
        Ok(start)
    }

    /// Measures the time from the start of a process to the response to its first sign-in. The responses of AWS are known
    /// from the warm sign-ins.
    pub(crate) async fn first_signins(&mut self, report: &mut Report) -> Result<()> {
        progress("first sign-ins");
        self.endpoint.answer(Mode::Replay);
        let (signin, call) = (self.program("signin")?.clone(), self.call("signin")?.clone());
        let (mut times, mut verifications, mut node) = (Vec::new(), Vec::new(), Vec::new());
        let passed_on = self.endpoint.passed_on();
        for _ in 0..STARTS {
            times.push(self.first(&signin, &call).await?);
            verifications.push(self.verification.run()?.as_secs_f64());
            if let Some(program) = &self.node {
                node.push(self.first(program, &call).await?);
            }
        }
        self.answered_from_memory_since(passed_on)?;
        report.figure("first_signin_vs_verify", ratio(&times, &verifications));
        report.time("first sign-in, from the start", median(&times));
        if !node.is_empty() {
            report.figure("first_signin_vs_node", ratio(&times, &node));
            report.time("first sign-in, from the start: Node", median(&node));
        }
        Ok(())
    }

    async fn first(&self, program: &Program, call: &Call) -> Result<f64> {
        let mut environment = program.start(&self.endpoint).await?;
        let time = environment.start + answered(&mut environment, call).await?.time;
        environment.stop().await?;
        Ok(time.as_secs_f64())
    }

    /// Measures sign-ins in the same process, alternating with the peers.
    pub(crate) async fn warm_signins(&mut self, report: &mut Report) -> Result<()> {
        progress("warm sign-ins");
        self.endpoint.answer(Mode::Replay);
        let call = self.call("signin")?.clone();
        let signin = self.program(call.function)?;
        let mut environment = signin.start(&self.endpoint).await?;
        let mut node = match &self.node {
            Some(program) => Some(program.start(&self.endpoint).await?),
            None => None,
        };
        let (mut times, mut verifications, mut node_times, mut reference) =
            <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        let (mut before, mut passed_on) = (environment.usage()?, 0);
        for round in 0..WARM_UP + SIGNINS {
            if round == WARM_UP {
                before = environment.usage()?;
                passed_on = self.endpoint.passed_on();
                for times in [&mut times, &mut verifications, &mut node_times, &mut reference] {
                    times.clear();
                }
            }
            times.push(answered(&mut environment, &call).await?.time.as_secs_f64());
            verifications.push(self.verification.run()?.as_secs_f64());
            if let Some(node) = &mut node {
                node_times.push(answered(node, &call).await?.time.as_secs_f64());
            }
            if let Some(program) = &mut self.reference {
                reference.push(program.run().await?.as_secs_f64());
            }
        }
        self.answered_from_memory_since(passed_on)?;
        let usage = environment.usage()?;
        report.figure(
            "faults_per_warm_signin",
            (usage.minor_faults - before.minor_faults) as f64 / SIGNINS as f64,
        );
        report.figure("rss_mb_signin", memory_mb(usage.rss));
        report.figure("warm_signin_vs_verify", ratio(&times, &verifications));
        report.time("bare verification", median(&verifications));
        report.time("warm sign-in", median(&times));
        let cpu = usage.cpu.saturating_sub(before.cpu).as_secs_f64() / SIGNINS as f64;
        report.time("warm sign-in, on the processor", cpu);
        environment.stop().await?;
        if let Some(node) = node {
            let rss = node.usage()?.rss;
            report.figure_of(
                "rss_vs_node",
                usage.rss as f64 / rss as f64,
                &format!("Node: {:.1} MB", memory_mb(rss)),
            );
            report.figure("warm_vs_node", ratio(&times, &node_times));
            report.time("warm sign-in: Node", median(&node_times));
            node.stop().await?;
        }
        if let Some(program) = &self.reference {
            report.figure(program.key, ratio(&verifications, &reference));
            report.time("bare verification: C", median(&reference));
        }
        Ok(())
    }

    /// Measures the memory of the functions that never hash.
    pub(crate) async fn light_memory(&self, report: &mut Report) -> Result<()> {
        progress("memory of the light functions");
        self.endpoint.answer(Mode::Replay);
        let mut sizes = Vec::new();
        for call in self.calls.iter().filter(|call| LIGHT.contains(&call.function)) {
            let mut environment = self.program(call.function)?.start(&self.endpoint).await?;
            for _ in 0..LIGHT_CALLS {
                answered(&mut environment, call).await?;
            }
            sizes.push((memory_mb(environment.usage()?.rss), call.function));
            environment.stop().await?;
        }
        let (size, name) = worst(sizes)?;
        report.figure_of("rss_mb_light", size, name);
        Ok(())
    }

    /// Counts the DynamoDB operations of each endpoint, the units that they consume, and the length of their longest
    /// sequence.
    pub(crate) async fn operations(&self, report: &mut Report) -> Result<Vec<MeasuredCall>> {
        self.endpoint.answer(Mode::Hold(HOLD));
        let mut measured = Vec::new();
        for call in &self.calls {
            let key = call.key;
            progress(&format!("operations of {key}"));
            let program = self.program(call.function)?;
            let mut environment = program.start(&self.endpoint).await?;
            self.endpoint.operations();
            answered(&mut environment, call).await?;
            let mut operations = self.endpoint.operations();
            operations.sort_by_key(|operation| operation.began);
            if key == "signin" {
                report.figure("first_signin_in_a_row", longest_chain(&operations, |_| 1.0));
            }
            operations.retain(|operation| operation.is_of_dynamodb() || operation.is_of_ses());
            let waits_ms = longest_chain(&operations, wait_ms);
            let mails = operations.iter().filter(|operation| operation.is_of_ses()).count();
            operations.retain(Operation::is_of_dynamodb);
            let names: Vec<&str> = operations.iter().map(Operation::short_name).collect();
            let units = Units {
                write: operations.iter().map(|operation| operation.units.write).sum(),
                read: operations.iter().map(|operation| operation.units.read).sum(),
            };
            report.figure_of(&format!("ops_{key}"), operations.len() as f64, &names.join(" "));
            report.figure(&format!("ops_{key}_in_a_row"), longest_chain(&operations, |_| 1.0));
            report.figure(&format!("wru_{key}"), units.write);
            report.figure(&format!("rru_{key}"), units.read);
            let memory_mb = program.function.memory_size;
            measured.push(MeasuredCall { key, units, memory_mb, hashes: call.hashes, waits_ms, mails });
            environment.stop().await?;
        }
        Ok(measured)
    }

    /// Measures the bytes of a sign-in in a warm environment.
    pub(crate) async fn signin_bytes(&self) -> Result<MeasuredSignin> {
        self.endpoint.answer(Mode::Replay);
        let call = self.call("signin")?;
        let mut environment = self.program(call.function)?.start(&self.endpoint).await?;
        answered(&mut environment, call).await?;
        let Invocation { answer, log, .. } = answered(&mut environment, call).await?;
        environment.stop().await?;
        let headers = answer["headers"].as_object().into_iter().flatten();
        // Each header has a colon, a space and a line break of two characters.
        let headers = headers.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len) + 4);
        let body = answer["body"].as_str().map_or(0, str::len);
        Ok(MeasuredSignin {
            log: log.iter().map(String::len).collect(),
            answer: headers.sum::<usize>() + body,
        })
    }

    /// Measures the CPU time of the first call of a light function, with and without opening its connections. At a small
    /// memory size, the user waits for a multiple of it.
    pub(crate) async fn first_checks(&self, report: &mut Report) -> Result<()> {
        progress("first checks");
        self.endpoint.answer(Mode::Replay);
        let call = self.call("check")?;
        let check = self.program(call.function)?;
        for (key, memory) in [("first_check_cpu_ms", WHOLE_CORE_MB), ("first_check_cpu_ms_connected", 256)] {
            let mut times = Vec::new();
            for _ in 0..STARTS {
                let mut environment = check.with_memory(memory).start(&self.endpoint).await?;
                let before = environment.usage()?.cpu;
                answered(&mut environment, call).await?;
                times.push(environment.usage()?.cpu.saturating_sub(before).as_secs_f64() * 1000.0);
                environment.stop().await?;
            }
            report.figure(key, median(&times));
        }
        Ok(())
    }

    /// Fails if more operations than `passed_on` have been passed on to the store, whose time would then be in the
    /// measurements.
    fn answered_from_memory_since(&self, passed_on: usize) -> Result<()> {
        let since = self.endpoint.passed_on() - passed_on;
        if since == 0 {
            Ok(())
        } else {
            Err(format!("{since} operations were not answered from memory").into())
        }
    }

    pub(crate) fn program(&self, name: &str) -> Result<&Program> {
        let program = self.functions.iter().find(|program| program.function.name == name);
        Ok(program.ok_or_else(|| format!("there is no function {name}"))?)
    }

    fn call(&self, key: &str) -> Result<&Call> {
        Ok(self.calls.iter().find(|call| call.key == key).ok_or("there is no such call")?)
    }
}

/// Sends a call, and fails unless the response has the expected status.
async fn answered(environment: &mut Environment, call: &Call) -> Result<Invocation> {
    let invocation = environment.invoke(&call.event).await?;
    let answer = &invocation.answer;
    // An authorizer answers without a status.
    let status = if answer["isAuthorized"] == true { Some(200) } else { answer["statusCode"].as_u64() };
    let expected = if call.succeeds { 200..300 } else { 400..401 };
    if status.is_some_and(|status| expected.contains(&status)) {
        Ok(invocation)
    } else {
        Err(format!("{} was answered {}", call.key, invocation.answer).into())
    }
}

/// The greatest sum of `length` over a chain of operations, each of which began after the one before it was answered.
/// `operations` are in the order in which they began.
fn longest_chain(operations: &[Operation], length: impl Fn(&Operation) -> f64) -> f64 {
    let mut sums: Vec<f64> = Vec::new();
    for operation in operations {
        let before = operations.iter().zip(&sums).filter(|(other, _)| other.answered <= operation.began);
        sums.push(length(operation) + before.map(|(_, sum)| *sum).fold(0.0, f64::max));
    }
    sums.into_iter().fold(0.0, f64::max)
}

/// The greatest figure and its owner.
fn worst<T>(figures: Vec<(f64, T)>) -> Result<(f64, T)> {
    Ok(figures
        .into_iter()
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .ok_or("nothing was measured")?)
}

/// Converts bytes to MB of 2^20 bytes, the unit of memory in Lambda.
fn memory_mb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Converts bytes to MB of 10^6 bytes.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_operation_that_began_before_a_response_does_not_wait_for_it() {
        let start = Instant::now();
        let operation = |(began, answered)| Operation {
            name: String::new(),
            began: start + Duration::from_millis(began),
            answered: start + Duration::from_millis(answered),
            units: Units::default(),
        };
        for (expected, times) in [
            (0, &[][..]),
            (1, &[(0, 100), (1, 101), (99, 199)]),
            (2, &[(0, 100), (1, 101), (100, 200), (101, 201)]),
            (3, &[(0, 100), (0, 300), (100, 200), (200, 300)]),
        ] {
            let operations: Vec<_> = times.iter().copied().map(operation).collect();
            let length = longest_chain(&operations, |_| 5.0);
            assert!((length - 5.0 * f64::from(expected)).abs() < f64::EPSILON, "{times:?}");
        }
    }
}
